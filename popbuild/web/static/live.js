// Keeps a page as the disk is, and sends what its forms say. Pages come from the server as they are
// to be seen; nothing here makes HTML out of text.

const page = document.body.dataset;

// What happens. The browser itself goes on behind the last event that it had.

let waiting = false;
let stale = false;
let last = 0;
const LEAST_MS = 120;

function follow() {
  const job = page.job ? `?job=${encodeURIComponent(page.job)}` : "";
  const events = new EventSource(`/api/v1/events${job}`);
  const concerned = (event) => {
    const body = JSON.parse(event.data);
    if (!page.job || event.type === "reset" || event.type === "trouble") return true;
    return body.id === page.job || (body.jobs ?? []).includes(page.job);
  };
  for (const kind of ["job", "gone", "files", "build", "reset", "trouble"]) {
    events.addEventListener(kind, (event) => concerned(event) && refresh());
  }
  events.addEventListener("open", () => { document.documentElement.dataset.line = "open"; });
  events.addEventListener("error", () => { document.documentElement.dataset.line = "lost"; });
}

function refresh() {
  if (waiting) { stale = true; return; }
  waiting = true;
  const pause = Math.max(0, last + LEAST_MS - performance.now());
  setTimeout(fetchPage, pause);
}

function fetchPage() {
  const request = new XMLHttpRequest();
  request.open("GET", location.href);
  request.responseType = "document";
  request.onloadend = () => {
    if (request.status === 200 && request.responseXML) take(request.responseXML);
    waiting = false;
    last = performance.now();
    if (stale) { stale = false; refresh(); }
  };
  request.send();
}

// Put what changed in its place; what somebody opened, chose or scrolled stays as it was.

function take(fresh) {
  for (const now of document.querySelectorAll("[data-live]")) {
    const then = fresh.querySelector(`[data-live="${CSS.escape(now.dataset.live)}"]`);
    if (!then || now.outerHTML === then.outerHTML) continue;
    const opened = [...now.querySelectorAll("details")].map((each) => each.open);
    const details = [...then.querySelectorAll("details")];
    if (details.length === opened.length) details.forEach((each, at) => { each.open = opened[at]; });
    const scrolled = [...now.querySelectorAll("pre, .scroll")].map((each) => [each.scrollLeft, each.scrollTop]);
    const focused = now.contains(document.activeElement) ? mark(document.activeElement) : null;
    const typed = [...now.querySelectorAll("input, textarea, select")].map((each) => each.value);
    const taken = document.importNode(then, true);
    now.replaceWith(taken);
    [...taken.querySelectorAll("pre, .scroll")].forEach((each, at) => {
      if (scrolled[at]) [each.scrollLeft, each.scrollTop] = scrolled[at];
    });
    const fields = [...taken.querySelectorAll("input, textarea, select")];
    if (fields.length === typed.length) fields.forEach((each, at) => { each.value = typed[at]; });
    if (focused) [...taken.querySelectorAll(focused.name)].find((each) => mark(each).text === focused.text)?.focus();
  }
  if (document.title !== fresh.title) document.title = fresh.title;
  const said = fresh.querySelector("[data-said]")?.textContent ?? "";
  const voice = document.querySelector("[data-said]");
  if (voice && voice.textContent !== said) voice.textContent = said;
}

function mark(element) {
  return { name: element.localName, text: element.id || element.getAttribute("href") || element.textContent };
}

// Forms with data-post are sent as JSON. A field's name says where its value belongs.

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
    if (field.value.trim() !== "") body[field.name] = field.value;
  }
  if ("compose" in form.dataset && !body.text) {
    body.text = compose(form);
    if (body.text === null) return;
  }
  const target = pressed?.dataset.post ?? form.dataset.post;
  if (pressed) pressed.disabled = true;
  try {
    const answer = await send(target, body, form);
    if (answer) {
      const next = form.dataset.then?.replace("{id}", encodeURIComponent(answer.id ?? ""));
      if (next) location.assign(next); else refresh();
    }
  } finally {
    if (pressed) pressed.disabled = false;
  }
});

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
    said = { error: "the server does not answer", values: { found: String(error) }, hint: "popbuild serve starts it" };
  }
  tell(form, said);
  return null;
}

// The text of a seed from its fields. What is JSON there goes in as it was written, so that the server
// reads it as strictly as a file; only where it is none, that is said at its field.

function compose(form) {
  const members = [];
  for (const field of form.querySelectorAll("[data-field]")) {
    let value = field.value;
    if ("json" in field.dataset) {
      try { JSON.parse(value); } catch (error) {
        place(form, { pointer: `/${field.dataset.field}`, message: error.message });
        return null;
      }
    } else if (value === "") continue; else value = JSON.stringify(value);
    members.push(`${JSON.stringify(field.dataset.field)}: ${value}`);
  }
  return `{\n${members.join(",\n")}\n}\n`;
}

// A problem at the field that it is about; false where there is none.

function place(form, problem) {
  const name = `/${problem.pointer.split("/")[1] ?? ""}`;
  const spot = form.querySelector(`[data-problem="${CSS.escape(name)}"]`);
  if (!spot) return false;
  const field = form.querySelector(`[data-field="${CSS.escape(name.slice(1))}"]`);
  const inside = problem.pointer.slice(name.length);
  spot.textContent += `${spot.textContent ? "; " : ""}${inside ? `${inside}: ` : ""}${problem.message}`;
  field?.setAttribute("aria-invalid", "true");
  field?.focus();
  return true;
}

function tell(form, said) {
  const alert = form.querySelector("[role=alert]") ?? form.appendChild(element("div", "", { role: "alert" }));
  alert.replaceChildren();
  alert.className = said ? "notice bad" : "";
  for (const spot of form.querySelectorAll("[data-problem]")) spot.textContent = "";
  for (const field of form.querySelectorAll("[aria-invalid]")) field.removeAttribute("aria-invalid");
  if (!said) return;
  alert.append(element("p", said.error));
  const list = element("ul", "");
  for (const problem of said.problems ?? []) {
    if (place(form, problem)) continue;
    list.append(element("li", problem.pointer ? `${problem.pointer}: ${problem.message}` : problem.message));
  }
  for (const [name, value] of Object.entries(said.values ?? {})) list.append(element("li", `${name}: ${value}`));
  if (list.children.length) alert.append(list);
  if (said.hint) alert.append(element("p", said.hint));
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

// A seed: its file is dropped or chosen, and looked at while somebody writes.

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
  // What is written as text is sent instead of the fields, which must then not hold it up.
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

if ("live" in page) follow();
