// Keeps a page up to date, and sends its forms. Pages come from the server as they are shown;
// nothing here makes HTML from text.

const page = document.body.dataset;

// Events. The browser itself resumes after the last event it received. A hidden page closes its
// connection: a browser opens only six to one server, and a seventh page would wait for ever.

let waiting = false;
let stale = false;
let next = 0;
let events = null;
const LEAST_MS = 100;
const SHARE = 3; // a page that takes long, on a busy server, is fetched less often
const AGAIN_MS = 2_000;
const AGE_MS = 60_000;

function follow() {
  if (events || document.hidden) return;
  const job = page.job ? `?job=${encodeURIComponent(page.job)}` : "";
  events = new EventSource(`/api/v1/events${job}`);
  const concerned = (event) => {
    const body = JSON.parse(event.data);
    if (!page.job || event.type === "reset" || event.type === "trouble") return true;
    return body.id === page.job || (body.jobs ?? []).includes(page.job);
  };
  for (const kind of ["job", "gone", "files", "build", "reset", "trouble"]) {
    events.addEventListener(kind, (event) => concerned(event) && refresh());
  }
  events.addEventListener("open", () => line("open"));
  events.addEventListener("hello", refresh);  // for what happened before the connection
  events.addEventListener("error", () => {
    if (events.readyState !== EventSource.CLOSED) { line("lost"); return; }
    // Refused: a browser does not try again by itself. The page says why.
    leave();
    refresh();
    setTimeout(follow, AGAIN_MS);
  });
}

function leave() {
  events?.close();
  events = null;
}

function line(state) { document.documentElement.dataset.line = state; }

document.addEventListener("visibilitychange", () => {
  if (!("live" in page)) return;
  if (document.hidden) leave(); else { refresh(); follow(); }
});

function refresh() {
  if (waiting || document.hidden) { stale = true; return; }
  waiting = true;
  setTimeout(fetchPage, Math.max(0, next - performance.now()));
}

function fetchPage() {
  const request = new XMLHttpRequest();
  const started = performance.now();
  request.open("GET", location.href);
  request.responseType = "document";
  request.onloadend = () => {
    // A 409 has no content, but says what is wrong with the root.
    if ([200, 409].includes(request.status) && request.responseXML) take(request.responseXML);
    else if ([401, 421].includes(request.status)) line("locked");
    else if (request.status === 404) line("gone");
    else if (request.status === 0) line("lost");
    waiting = false;
    next = performance.now() + Math.max(LEAST_MS, SHARE * (performance.now() - started));
    goOn();
  };
  request.send();
}

function goOn() {
  if (!stale) return;
  stale = false;
  refresh();
}

// Update what changed. An element that is still there is kept, and with it what the reader opened,
// typed, chose or scrolled.

function take(fresh) {
  const focused = document.activeElement;
  const name = mark(focused);
  for (const now of document.querySelectorAll("[data-live]")) {
    const then = fresh.querySelector(`[data-live="${CSS.escape(now.dataset.live)}"]`);
    if (then) become(now, then);
  }
  if (!focused.isConnected) {
    const again = [...document.querySelectorAll(name.name)].find((each) => mark(each).text === name.text);
    if (again) again.focus(); else toHeading();
  }
  if (document.title !== fresh.title) document.title = fresh.title;
  const said = fresh.querySelector("[data-said]")?.textContent ?? "";
  const voice = document.querySelector("[data-said]");
  if (voice && voice.textContent !== said) voice.textContent = said;
}

// When the focused element is gone, the focus moves to the page's heading, not to the top.

function toHeading() {
  const heading = document.querySelector("main h1");
  heading.tabIndex = -1;
  heading.focus({ preventScroll: true });
}

const OURS = ["open", "disabled", "aria-invalid"];  // attributes that the reader and this script set

function become(now, then) {
  if (now.isEqualNode(then)) return;
  if (now.nodeType !== Node.ELEMENT_NODE) { now.data = then.data; return; }
  for (const each of [...now.attributes]) {
    const ours = OURS.includes(each.name) || (now === document.activeElement && each.name === "tabindex");
    if (!then.hasAttribute(each.name) && !ours) now.removeAttribute(each.name);
  }
  for (const each of then.attributes) {
    if (!OURS.includes(each.name) && now.getAttribute(each.name) !== each.value) {
      now.setAttributeNS(each.namespaceURI, each.name, each.value);
    }
  }
  let place = now.firstChild;
  for (const wanted of then.childNodes) {
    const same = sameAs(wanted, place);
    if (!same) { now.insertBefore(document.importNode(wanted, true), place); continue; }
    while (place !== same) place = without(place);
    become(same, wanted);
    place = same.nextSibling;
  }
  while (place) place = without(place);
}

function without(node) {
  const next = node.nextSibling;
  if (!("ours" in (node.dataset ?? {}))) node.remove();
  return next;
}

// The same element, wherever it has moved to: by its name, or else the next of its kind.

function sameAs(wanted, place) {
  const key = keyOf(wanted);
  for (let each = place; each; each = each.nextSibling) {
    if (each.nodeName === wanted.nodeName && keyOf(each) === key) return each;
    const passed = each.nodeType !== Node.ELEMENT_NODE || "ours" in each.dataset;
    if (key === null && !passed) return null;
  }
  return null;
}

function keyOf(node) {
  if (node.nodeType !== Node.ELEMENT_NODE) return null;
  const named = node.id || node.getAttribute("aria-labelledby") || node.dataset?.post;
  if (named) return named;
  const head = { details: ":scope > summary", tr: ":scope > th", article: ":scope > h2" }[node.localName];
  return (head && node.querySelector(head)?.textContent) || null;
}

function mark(element) {
  return { name: element.localName, text: element.id || element.getAttribute("href") || element.textContent };
}

// Forms with data-post are sent as JSON: each field's name is a member.

document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (!form.dataset.post) return;
  event.preventDefault();
  const pressed = event.submitter;
  const fixed = pressed?.dataset.body ?? form.dataset.body;
  const body = fixed ? JSON.parse(fixed) : {};
  tell(form, null);
  for (const field of form.elements) {
    if (!field.name || field.disabled) continue;
    if (field.type === "checkbox") { if (field.checked) body[field.name] = true; continue; }
    if (field.value.trim() === "") continue;
    body[field.name] = field.type === "number" ? field.valueAsNumber : field.value;
  }
  if ("compose" in form.dataset && !body.text) {
    body.text = compose(form);
    if (body.text === null) return;
  }
  const target = pressed?.dataset.post ?? form.dataset.post;
  if (pressed) pressed.disabled = true;
  try {
    const files = form.querySelector("[data-files]")?.files ?? [];
    if (files.length) body.files = await Promise.all([...files].map(packed));
    const answer = await send(target, body, form);
    if (answer) {
      const next = form.dataset.then?.replace("{id}", encodeURIComponent(answer.id ?? ""));
      if (next) location.assign(next); else refresh();
    }
  } finally {
    if (pressed) {
      pressed.disabled = false;
      // A browser takes the focus from a disabled button, and the page may have changed by now.
      if (document.activeElement === document.body) {
        if (pressed.isConnected) pressed.focus({ preventScroll: true }); else toHeading();
      }
    }
  }
});

// A file as the API takes it: named as prompts will read it, its bytes as base64.

function packed(file) {
  const name = file.name.replace(/\.[^.]*$/, "").replace(/[^A-Za-z0-9_-]+/g, "-");
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve({ name, file: file.name, base64: reader.result.split(",")[1] ?? "" });
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

async function send(target, body, form) {
  let said;
  try {
    const response = await fetch(target, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
    said = await response.json();
    if (response.ok) { tell(form, null); return said; }
  } catch (error) {
    said = { error: "the server is not responding", values: { found: String(error) }, hint: "popbuild serve starts it" };
  }
  tell(form, said);
  return null;
}

// The text of a seed from its fields. JSON is sent as it was written, so that the server reads it as
// strictly as a file; text that is not JSON is reported at its field.

function compose(form) {
  const members = [];
  for (const field of form.querySelectorAll("[data-field]")) {
    let value = field.value;
    if ("json" in field.dataset) {
      try { JSON.parse(value); } catch (error) {
        show(place(form, { pointer: `/${field.dataset.field}`, message: error.message }));
        return null;
      }
    } else if (value === "") continue; else value = JSON.stringify(value);
    members.push(`${JSON.stringify(field.dataset.field)}: ${value}`);
  }
  return `{\n${members.join(",\n")}\n}\n`;
}

// Show a problem where it belongs: at the text of the seed if that was sent, else at its field.
// Returns the place, or null.

function place(form, problem) {
  const whole = wholeOf(form);
  const name = whole ? "text" : `/${problem.pointer.split("/")[1] ?? ""}`;
  return mention(form, name, lineOf(problem, whole ? "" : name));
}

function mention(form, name, said) {
  const spot = form.querySelector(`[data-problem="${CSS.escape(name)}"]`);
  if (!spot) return null;
  spot.textContent += `${spot.textContent ? "\n" : ""}${said}`;
  const field = form.querySelector(`[aria-describedby~="${CSS.escape(spot.id)}"]`);
  field?.setAttribute("aria-invalid", "true");
  return { spot, field };
}

function lineOf(problem, place = "") {
  const inside = problem.pointer.slice(place.length);
  return `${inside ? `${inside}: ` : ""}${problem.message}`;
}

function wholeOf(form) { return Boolean(form.querySelector("#seed-text")?.value.trim()); }

// Scroll to the first problem, also in a small window.

function show(found) {
  if (!found) return;
  const closed = found.spot.closest("details");
  if (closed) closed.open = true;
  found.field?.focus({ preventScroll: true });
  (found.spot.parentElement ?? found.spot).scrollIntoView({ block: "center" });
}

function tell(form, said) {
  const alert = form.querySelector("[role=alert]") ?? form.appendChild(element("div", "", { role: "alert", "data-ours": "" }));
  alert.replaceChildren();
  alert.className = said ? "notice bad" : "";
  for (const spot of form.querySelectorAll("[data-problem]")) spot.textContent = "";
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  if (!said) return;
  alert.append(element("p", said.error));
  const list = element("ul", "");
  const values = Object.entries(said.values ?? {});
  const spots = [];
  for (const problem of said.problems ?? []) {
    spots.push(place(form, problem));
    list.append(element("li", lineOf(problem)));
  }
  for (const [name, value] of values) list.append(element("li", `${name}: ${value}`));
  // An error about the job's ID.
  if (!spots.length && values.some(([name]) => name === "job")) spots.push(mention(form, "job", said.error));
  if (list.children.length) alert.append(list);
  if (said.hint) alert.append(element("p", said.hint));
  show(spots.find(Boolean));
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A seed's file can be dropped or chosen.

const seed = document.querySelector("#seed-text");

if (seed) {
  const take = async (file) => {
    seed.value = await file.text();
    document.querySelector("#seed-whole").open = true;
    const name = document.querySelector("#seed-id");
    if (name && !name.value && file.name.endsWith(".json")) name.value = file.name.slice(0, -5);
    seed.dispatchEvent(new Event("input"));
    seed.focus();
  };
  // Text is sent instead of the fields, which must not block it then.
  seed.addEventListener("input", () => {
    const whole = seed.value.trim() !== "";
    for (const field of document.querySelectorAll("[data-field]")) field.disabled = whole;
  });
  for (const kind of ["dragenter", "dragover"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); document.body.classList.add("dropping"); });
  }
  for (const kind of ["dragleave", "drop"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); document.body.classList.remove("dropping"); });
  }
  document.addEventListener("drop", (event) => {
    const file = event.dataTransfer?.files?.[0];
    if (file) take(file);
  });
  document.querySelector("#seed-file")?.addEventListener("change", (event) => {
    if (event.target.files[0]) take(event.target.files[0]);
  });
}

// Running times go on counting between events.

function count() {
  for (const each of document.querySelectorAll("[data-since]")) {
    const took_s = Math.max(0, (Date.now() - Date.parse(each.dataset.since)) / 1000);
    const whole = Math.floor(took_s);
    each.textContent = took_s < 10 ? `${took_s.toFixed(1)} s`
      : whole < 100 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
  }
}

if ("live" in page) {
  setInterval(() => { if (!document.hidden) count(); }, 1_000);
  follow();
  setInterval(() => { if (!document.hidden) refresh(); }, AGE_MS);  // "3 min ago" grows older
}
