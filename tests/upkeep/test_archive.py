"""`archive`, `restore` and `backup`: what goes into a file comes back as it was, or not at all."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from backports import zstd
from provider import Provider
from pyrage import x25519
from steps import EVERY, run_killed
from workspace import Workspace

from popbuild.base.jsonio import digest_bytes
from popbuild.base.paths import Root
from popbuild.model.letter import seal
from popbuild.upkeep import verify

FIRST = "pipeline-data/complete/first"


@pytest.fixture
def built(workspace: Workspace) -> Workspace:
    """Two complete jobs."""
    workspace.seed("second", {"topic": "wind", "tone": "plain"})
    assert workspace.popbuild("run").code == 0
    return workspace


def done(workspace: Workspace, *args: str, **options: Any) -> str:
    result = workspace.popbuild(*args, **options)
    assert result.code == 0, result.out + result.err
    return result.out


def fails(workspace: Workspace, said: str, *args: str, code: int = 3) -> str:
    """The command is refused, says this, and changes nothing in the jobs, nor leaves anything.
    Gives what it said."""
    before = workspace.tree("pipeline-data")
    result = workspace.popbuild(*args)
    assert result.code == code, result.out + result.err
    assert said in result.err
    assert workspace.tree("pipeline-data") == before
    assert left_over(workspace) == []
    return result.err


def left_over(workspace: Workspace) -> list[Path]:
    return [*workspace.root.rglob(".tmp-*"), *workspace.root.glob(".popbuild/restoring/*")]


def alter(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


# --- there and back ---


def test_there_and_back(built: Workspace, provider: Provider) -> None:
    """A job that was archived, removed and restored is as it was, to the byte; verify misses it at
    no time, and each command may be given again."""
    calls, before = len(provider.requests), built.tree("pipeline-data")
    out = done(built, "archive", "first", "-o", "a.tar.zst", "--remove", "--json")
    archived = json.loads(out)
    assert (archived["removed"], archived["jobs"]) == ([FIRST], ["first"])
    assert built.states("first") == []
    assert (built.root / "a.tar.zst").stat().st_mode & 0o777 == 0o600
    done(built, "verify")
    again = built.tree()
    assert "was there already" in done(built, "archive", "first", "-o", "a.tar.zst", "--remove")
    assert built.tree() == again
    assert done(built, "restore", "a.tar.zst") == f"restored {FIRST}\n"
    assert built.tree("pipeline-data") == before
    after = built.tree()
    assert done(built, "restore", "a.tar.zst") == f"{FIRST} is there already\n"
    assert built.tree() == after
    done(built, "verify")
    done(built, "check")
    done(built, "validate")
    assert len(provider.requests) == calls
    # Once it is back, it must stand: verify misses it if it is taken away.
    shutil.rmtree(built.job("first"))
    assert built.popbuild("verify").code == 1


def test_what_a_killed_command_left_is_no_part_of_a_job(built: Workspace) -> None:
    """No seal has it, and no archive: the job comes back without, and is proven either way."""
    left = ".tmp-0123456789abcdef"
    built.seed("first", {"topic": "tides"})
    assert built.popbuild("run", "first", env={"POPBUILD_STORE": "only"}).code != 0
    built.write(f"pipeline-data/current/first/tasks/{left}", "half a letter")
    built.write(f"pipeline-data/current/first/files/{left}/logs/x", "half a folder")
    done(built, "run", "first")
    assert left not in str(built.read(f"{FIRST}/seal.json"))
    done(built, "verify")
    without = [each for each in built.tree(FIRST) if left not in each[0]]
    assert len(without) == len(built.tree(FIRST)) - 2
    done(built, "archive", "first", "-o", "a.tar.zst")
    done(built, "restore", "a.tar.zst")  # it is there already
    done(built, "archive", "first", "-o", "a.tar.zst", "--remove")
    done(built, "restore", "a.tar.zst")
    assert built.tree(FIRST) == without
    done(built, "verify")


def test_the_same_jobs_make_the_same_bytes(built: Workspace) -> None:
    """Whatever the time, and the time of each file."""
    done(built, "archive", "*", "-o", "a.tar.zst")
    for path in built.job("first").rglob("*"):
        os.utime(path, (1, 1))
    done(built, "archive", "first", "second", "-o", "b.tar.zst")
    assert (built.root / "a.tar.zst").read_bytes() == (built.root / "b.tar.zst").read_bytes()


def test_plain_tar_reads_it(built: Workspace) -> None:
    """What stands in an archive is the job's own files, under their own paths."""
    done(built, "archive", "first", "-o", "a.tar.zst")
    data = zstd.decompress((built.root / "a.tar.zst").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        found = {member.name: tar.extractfile(member) for member in tar}
    del found["archive.json"]
    files = [path for path in built.job("first").rglob("*") if path.is_file()]
    assert found.keys() == {str(path.relative_to(built.root)) for path in files}
    for name, stream in found.items():
        assert stream is not None
        assert stream.read() == (built.root / name).read_bytes()


def test_a_rejected_job(workspace: Workspace, provider: Provider) -> None:
    """It goes and comes back as a complete one does; one that stands there is never replaced."""
    workspace.task("analysis", schema={"type": "object", "required": ["title"]})
    provider.script(["Research.", "{}", "{}", "{}"])
    assert workspace.popbuild("run", "first").code == 1
    before = workspace.tree("pipeline-data/rejected")
    done(workspace, "archive", "first", "-o", "a.tar.zst", "--remove")
    assert workspace.states("first") == []
    calls = len(provider.requests)
    done(workspace, "restore", "a.tar.zst")
    assert workspace.tree("pipeline-data/rejected") == before
    assert workspace.popbuild("run", "first").code == 1
    assert len(provider.requests) == calls  # its rejection holds, as before
    workspace.write("pipeline-data/rejected/first/note.txt", "mine")
    fails(workspace, "with another result", "restore", "a.tar.zst", "--force")


def test_another_result_is_replaced_only_by_force(built: Workspace) -> None:
    """The one that was there is kept as a previous result, and the restored one must stand."""
    done(built, "archive", "first", "-o", "a.tar.zst")
    old = built.tree(FIRST)
    built.seed("first", {"topic": "tides", "tone": "plain"})
    done(built, "run", "first")
    new = built.tree(FIRST)
    fails(built, "with another result", "restore", "a.tar.zst")
    assert done(built, "restore", "a.tar.zst", "--force") == f"restored {FIRST}\n"
    assert built.tree(FIRST) == old
    done(built, "verify")
    (kept,) = built.root.glob(".popbuild/previous/first/*")
    shelf = str(kept.relative_to(built.root))
    moved = [(name.replace(shelf, FIRST), digest) for name, digest in built.tree(shelf)]
    assert moved == new
    # A rebuild is the last result again.
    done(built, "run", "first")
    done(built, "verify")


def test_in_another_root(built: Workspace, tmp_path: Path) -> None:
    """A root that never saw the job proves it all the same, and misses it once it is gone."""
    done(built, "archive", "first", "second", "-o", "a.tar.zst")
    with Workspace(tmp_path / "other", built.provider) as other:
        file = str(built.root / "a.tar.zst")
        assert done(other, "restore", file, "s*") == "restored pipeline-data/complete/second\n"
        assert other.states("first") == []
        found = json.loads(done(other, "verify", "--json"))
        assert [job["id"] for job in found["jobs"]] == ["second"]
        alter(other.job("second") / "tasks/research/letter.json")
        assert other.popbuild("verify").code == 1
        fails(other, "with another result", "restore", file, "second")
        shutil.rmtree(other.job("second"))
        assert other.popbuild("verify").code == 1


# --- what is refused ---


def test_what_is_refused(built: Workspace, provider: Provider) -> None:
    """An unknown job, a file in the way, a job that was altered, one that is built."""
    fails(built, "did you mean", "archive", "frist", "-o", "a.tar.zst")
    built.write("mine.txt", "mine")
    assert built.popbuild("archive", "first", "-o", "mine.txt", "--remove").code == 3
    assert (built.root / "mine.txt").read_text() == "mine"
    done(built, "archive", "second", "-o", "a.tar.zst")
    fails(built, "holds something else", "archive", "first", "-o", "a.tar.zst", "--remove")
    fails(built, "no such folder", "archive", "first", "-o", "nowhere/a.tar.zst")
    alter(built.job("second") / "seed.json")
    fails(built, "altered since", "archive", "second", "-o", "b.tar.zst", "--remove")
    assert not (built.root / "b.tar.zst").exists()
    provider.hold()
    built.seed("first", {"topic": "tides"})
    with built.start("popbuild", "run", "first"):
        provider.wait_for(5)
        locked = ("archive", "first", "-o", "b.tar.zst", "--remove"), ("backup", "-o", "b.tar.zst")
        for each in locked:
            assert built.popbuild(*each).code == 5
        assert not (built.root / "b.tar.zst").exists()
        provider.release()


def test_nothing_goes_when_the_archive_is_wrong(built: Workspace) -> None:
    """A disk that gives back something else than what was written is noticed before a job goes,
    and leaves no archive."""
    lying = (
        "import sys\nfrom popbuild.cli.main import main\n"
        "from popbuild.upkeep.archive import tarball\n"
        "add = tarball._add\n"
        "tarball._add = lambda stream, place, data: add(stream, place, data[::-1])\n"
        "sys.exit(main(['archive', 'first', '-o', 'a.tar.zst', '--remove']))\n"
    )
    before = built.tree()
    assert built.run("python", "-c", lying).code == 3
    assert built.tree() == before
    assert left_over(built) == []


@pytest.mark.parametrize(("library", "name"), [("backports", "a.tar.zst"), ("pyrage", "a.age")])
def test_a_library_that_is_missing(built: Workspace, library: str, name: str) -> None:
    """The message says what to install."""
    built.write("pipeline-config/recipients.txt", f"{x25519.Identity.generate().to_public()}\n")
    without = (
        f"import sys\nsys.modules['{library}'] = None\nfrom popbuild.cli.main import main\n"
        f"more = ['--plain'] if '{library}' == 'backports' else []\n"
        f"sys.exit(main(['archive', 'first', '-o', '{name}', *more]))\n"
    )
    result = built.run("python", "-c", without)
    assert (result.code, "pip install 'popbuild[archive]'" in result.err) == (3, True)
    assert left_over(built) == []


# --- hostile archives ---

Member = tuple[tarfile.TarInfo, bytes]


def member(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE) -> Member:
    info = tarfile.TarInfo(name)
    info.size, info.type = len(data), kind
    return info, data


def pack(members: Iterable[Member], end: bytes = bytes(1024)) -> bytes:
    data = b""
    for info, content in members:
        data += info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    return zstd.compress(data + end)


def contents(files: dict[str, bytes], **more: object) -> Member:
    body = {
        "formatVersion": 1,
        "kind": "jobs",
        "jobs": [{"id": "evil", "state": "rejected"}],
        "files": {name: digest_bytes(data) for name, data in files.items()},
    }
    return member("archive.json", json.dumps({**body, **more}).encode())


def archive_of(files: dict[str, bytes], **more: object) -> bytes:
    members = [member(name, files[name]) for name in sorted(files)]
    return pack([contents(files, **more), *members])


EVIL = "pipeline-data/rejected/evil"
ONE = {f"{EVIL}/seed.json": b"{}"}
LINK = member(f"{EVIL}/seed.json", kind=tarfile.SYMTYPE)
LINK[0].linkname = "/etc/passwd"
HOSTILE: dict[str, tuple[bytes, str]] = {
    "absolute": (archive_of({"/var/evil": b"1"}), "path"),
    "upwards": (archive_of({f"{EVIL}/../../../../evil": b"1"}), "path"),
    "this": (archive_of({f"{EVIL}/./evil": b"1"}), "path"),
    "nothing": (archive_of({f"{EVIL}//evil": b"1"}), "path"),
    "another job": (archive_of({"pipeline-data/complete/first/evil": b"1"}), "none of its jobs"),
    "configuration": (archive_of({"pipeline-config/tasks/x/stages.py": b"1"}), "none of its"),
    "private": (archive_of({".popbuild/runs.jsonl": b"1"}), "none of its jobs"),
    "a prefix": (archive_of({"pipeline-data/rejected/evil2/seed.json": b"1"}), "none of its jobs"),
    "a name": (archive_of({}, jobs=[{"id": "../..", "state": "rejected"}]), "not a valid name"),
    "hidden": (archive_of({}, jobs=[{"id": ".tmp-1", "state": "rejected"}]), "not a valid name"),
    "a state": (archive_of({}, jobs=[{"id": "evil", "state": "current"}]), "not a state"),
    "twice": (archive_of({}, jobs=[{"id": "evil", "state": "rejected"}] * 2), "twice"),
    "by case": (archive_of({}, jobs=[{"id": "First", "state": "rejected"}]), "upper and lower"),
    "a link": (pack([contents({f"{EVIL}/seed.json": b""}), LINK]), "of type"),
    "a hard link": (
        pack([contents({"x": b""}), member("x", kind=tarfile.LNKTYPE)]),
        "none of its jobs",
    ),
    "a device": (
        pack([contents({f"{EVIL}/x": b""}), member(f"{EVIL}/x", kind=tarfile.CHRTYPE)]),
        "of type",
    ),
    "a long name": (
        pack([member("x", b"13 path=/evil\n", tarfile.XHDTYPE), contents(ONE)]),
        "of type",
    ),
    "another file": (pack([contents(ONE), member("/var/evil", b"{}")]), "where"),
    "one more": (pack([contents(ONE), member(*next(iter(ONE.items()))), LINK]), "more than"),
    "one less": (pack([contents(ONE)]), "not a whole archive"),
    "another content": (pack([contents(ONE), member(next(iter(ONE)), b"[]")]), "is not what"),
    "behind the end": (archive_of(ONE) + zstd.compress(b"more"), "more than"),
    "noise behind": (archive_of(ONE) + b"noise", "not a whole archive"),
    "torn": (archive_of(ONE)[:-9], "not a whole archive"),
    "no archive": (b"%PDF-1.7", "not a whole archive"),
    "empty": (b"", "not a whole archive"),
    "no contents": (pack([member(next(iter(ONE)), b"{}")]), "where"),
    "duplicate keys": (
        pack([member("archive.json", b'{"formatVersion": 1, "formatVersion": 1}')]),
        "duplicate key",
    ),
    "a version": (archive_of(ONE, formatVersion=2), "version"),
    "a file as a folder": (archive_of({f"{EVIL}/a": b"1", f"{EVIL}/a/b": b"1"}), "as a folder"),
    "too large": (archive_of({f"{EVIL}/zeros": bytes(3_000_000)}), "too large"),
    "a root": (archive_of({}, kind="root"), "holds a root"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives(workspace: Workspace, tmp_path: Path, kind: str) -> None:
    """Each is refused with what is wrong, and nothing of it is anywhere."""
    data, said = HOSTILE[kind]
    workspace.write("evil.tar.zst", data)
    fails(workspace, said, "restore", "evil.tar.zst", "--max-size", "1MB")
    assert list(tmp_path.rglob("*evil*")) == [workspace.root / "evil.tar.zst"]
    assert workspace.states("evil") == []


def test_an_archive_that_is_not_hostile(workspace: Workspace) -> None:
    """What the others are made from is taken, or they would be refused for nothing."""
    workspace.write("evil.tar.zst", archive_of(ONE))
    assert done(workspace, "restore", "evil.tar.zst") == f"restored {EVIL}\n"
    assert (workspace.root / EVIL / "seed.json").read_bytes() == b"{}"


@pytest.mark.parametrize("with_seal", [False, True])
def test_a_complete_job_must_be_as_it_was_promoted(built: Workspace, with_seal: bool) -> None:
    """An altered artifact with right digests in the archive is refused by its seal; with a seal
    that fits, by what this root knows of the run."""
    done(built, "archive", "first", "-o", "a.tar.zst", "--remove")
    data = io.BytesIO(zstd.decompress((built.root / "a.tar.zst").read_bytes()))
    with tarfile.open(fileobj=data) as tar:
        files = {each.name: tar.extractfile(each).read() for each in tar}  # type: ignore[union-attr]
    body = json.loads(files.pop("archive.json"))
    name = "files/artifacts/analysis-output.json"
    files[f"{FIRST}/{name}"] = b'{\n  "content": "forged"\n}\n'
    if with_seal:
        forged = json.loads(files[f"{FIRST}/seal.json"])
        forged["files"][name] = digest_bytes(files[f"{FIRST}/{name}"])
        files[f"{FIRST}/seal.json"] = (json.dumps(seal(forged), indent=2) + "\n").encode()
        del body["jobs"][0]["line"]
    built.write("a.tar.zst", archive_of(files, jobs=body["jobs"]))
    fails(built, "not as it was promoted", "restore", "a.tar.zst")


# --- formats ---


def test_what_an_archive_says_is_validated(built: Workspace) -> None:
    """Its first file has a schema of its own, wherever it stands; the archive is read in full."""
    done(built, "archive", "first", "-o", "a.tar.zst")
    done(built, "validate", "a.tar.zst")
    data = zstd.decompress((built.root / "a.tar.zst").read_bytes())
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        tar.extract("archive.json", built.root, filter="data")
    done(built, "validate")
    body = built.read("archive.json")
    body["jobs"][0]["state"] = "current"
    body["files"]["x"] = "no digest"
    built.write("archive.json", body)
    result = built.popbuild("validate")
    assert result.code == 1
    assert "/jobs/0/state" in result.out
    assert "/files/x" in result.out
    alter(built.root / "a.tar.zst")
    assert "not a whole archive" in built.popbuild("validate", "a.tar.zst").out
    built.write("a.tar.zst", archive_of(ONE, jobs=[{"id": "evil", "state": "current"}]))
    assert "/jobs/0/state" in built.popbuild("validate", "a.tar.zst").out


@pytest.mark.parametrize("key", ["removed", "restored"])
def test_lines_of_our_copy_are_validated(built: Workspace, key: str) -> None:
    """What archive and restore write into it has a schema, and anything else is found."""
    done(built, "archive", "first", "-o", "a.tar.zst", "--remove")
    if key == "restored":
        done(built, "restore", "a.tar.zst")
    path = built.root / ".popbuild/runs.jsonl"
    *lines, last = path.read_text().splitlines()
    assert key in json.loads(last)
    done(built, "validate")
    path.write_text("\n".join([*lines, json.dumps({**json.loads(last), key: "../up"})]) + "\n")
    result = built.popbuild("validate")
    assert result.code == 1
    assert f".popbuild/runs.jsonl: line {len(lines) + 1}: " in result.out.replace("\n", " ")


# --- encryption ---


@pytest.fixture
def keys(built: Workspace) -> Path:
    """A root with a recipient, whose private key lies elsewhere."""
    key = x25519.Identity.generate()
    built.write("pipeline-config/recipients.txt", f"# the vault\n{key.to_public()}\n")
    path = built.root.parent / "key.txt"
    path.write_text(f"# made for a test\n{key}\n")
    return path


def test_encrypted_there_and_back(built: Workspace, keys: Path, provider: Provider) -> None:
    """Only who has the private key reads it; nothing is removed before it was read back."""
    before = built.tree("pipeline-data")
    key = ("--identity", str(keys))
    fails(built, "the name says otherwise", "archive", "first", "-o", "a.tar.zst")
    fails(built, "missing", "archive", "first", "-o", "a.age", "--remove")
    done(built, "archive", "first", "-o", "a.age")
    assert b"age-encryption.org" in (built.root / "a.age").read_bytes()[:30]
    done(built, "archive", "first", "-o", "a.age", "--remove", *key)
    assert built.states("first") == []
    fails(built, "is encrypted", "restore", "a.age")
    other = keys.with_name("other.txt")
    other.write_text(f"{x25519.Identity.generate()}\n")
    fails(built, "cannot be decrypted", "restore", "a.age", "--identity", str(other))
    done(built, "restore", "a.age", *key)
    assert built.tree("pipeline-data") == before
    done(built, "archive", "first", "-o", "plain.tar.zst", "--plain")
    done(built, "verify")
    done(built, "archive", "second", "-o", "b.age", "--remove", *key)  # read back before it goes


@pytest.mark.parametrize("where", ["head", "middle", "end", "short"])
def test_an_encrypted_archive_that_was_altered(built: Workspace, keys: Path, where: str) -> None:
    """It is refused as a whole."""
    done(built, "archive", "*", "-o", "a.age")
    data = bytearray((built.root / "a.age").read_bytes())
    if where == "short":
        del data[-20:]
    else:
        data[{"head": 60, "middle": len(data) // 2, "end": -1}[where]] ^= 1
    built.write("a.age", bytes(data))
    done(built, "archive", "first", "-o", "b.age", "--remove", "--identity", str(keys))
    fails(built, "decrypted", "restore", "a.age", "--identity", str(keys))
    assert built.states("first") == []


def test_a_full_disk(built: Workspace, keys: Path) -> None:
    """It is told as what it is, encrypted or not, and leaves no archive."""
    full = (
        "import errno, sys\nfrom popbuild.cli.main import main\n"
        "from popbuild.upkeep.archive.write import _Digesting\n"
        "def write(stream, data):\n    raise OSError(errno.ENOSPC, 'No space left on device')\n"
        "_Digesting.write = write\n"
        "sys.exit(main(['archive', 'first', *sys.argv[1:]]))\n"
    )
    for arguments in (["-o", "a.age"], ["-o", "a.tar.zst", "--plain"]):
        result = built.run("python", "-c", full, *arguments)
        assert (result.code, "No space left" in result.err) == (3, True), result.err
        assert "Traceback" not in result.err
        assert [*built.root.glob("a.*"), *left_over(built)] == []


def test_private_keys_never_lie_in_a_root(built: Workspace, keys: Path) -> None:
    """Not as an identity, also by a link; and not among the recipients. No message shows one."""
    done(built, "archive", "first", "-o", "a.age")
    inside = built.write("secret/key.txt", keys.read_text())
    link = keys.with_name("link.txt")
    link.symlink_to(inside)
    for path in (inside, link):
        fails(built, "lies in the root", "restore", "a.age", "--identity", str(path))
    done(built, "restore", "a.age", "--identity", str(keys))
    built.write("pipeline-config/recipients.txt", keys.read_text())
    result = built.popbuild("archive", "first", "-o", "b.age")
    assert (result.code, "a private key stands" in result.err) == (3, True)
    assert "AGE-SECRET-KEY" not in result.out + result.err
    keys.write_text("AGE-SECRET-KEY-1NOTREALLY\n")
    result = built.popbuild("restore", "a.age", "--identity", str(keys))
    assert (result.code, "not a private key" in result.err) == (3, True)
    assert "NOTREALLY" not in result.out + result.err


def test_a_private_key_goes_into_no_archive(built: Workspace, keys: Path) -> None:
    """Wherever it lies among what is archived, encrypted or not: refused with its place, and not
    shown. A seed that speaks of one stops no job."""
    key = keys.read_text()
    for place in ("pipeline-config/oldkey", "seeds/.old", "pipeline-data/complete/first/key.txt"):
        path = built.write(place, f"{key}\n# that was it\n")
        for more in (["-o", "a.tar.zst", "--plain"], ["-o", "a.age"]):
            said = fails(built, "a private key lies in the root", "backup", *more)
            assert place in said
            assert "AGE-SECRET-KEY" not in said
        path.unlink()
    built.write("pipeline-config/oldkey", key)
    result = built.popbuild("validate")
    assert (result.code, "AGE-SECRET-KEY" in result.out) == (1, False)
    assert "pipeline-config/oldkey: a private key lies in the root" in result.out
    (built.root / "pipeline-config/oldkey").unlink()
    rejected = built.job("other", "rejected")
    rejected.mkdir(parents=True)
    (rejected / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nx\n")
    fails(built, "a private key lies in the root", "archive", "other", "-o", "a.age")
    shutil.rmtree(rejected)
    assert [*built.root.glob("a.*"), *left_over(built)] == []
    built.seed("other", {"topic": key})
    done(built, "backup", "-o", "a.age")


# --- backup ---


def test_backup_and_back(built: Workspace, provider: Provider) -> None:
    """The copy is a root that builds nothing and proves everything; keys stay out of it."""
    built.write(".env", "OPENAI_API_KEY=sk-canary-0123456789\n")
    (built.root / "seeds/link").symlink_to("/etc/passwd")
    result = built.popbuild("backup", "-o", "../b.tar.zst")
    assert (result.code, result.err) == (
        0,
        "left out seeds/link: neither a file nor a folder, or its name is not UTF-8\n",
    )
    data = zstd.decompress((built.root / "../b.tar.zst").read_bytes())
    assert b"canary" not in data
    calls = len(provider.requests)
    assert done(built, "restore", "../b.tar.zst", "--into", "../copy").startswith("restored ../co")
    for name in ("seeds", "pipeline-config", "pipeline-data", ".popbuild/store"):
        for path, _ in built.tree(name):
            if path != "seeds/link":
                copied = built.root / "../copy" / path
                assert copied.read_bytes() == (built.root / path).read_bytes()
    copy = {"env": {"POPBUILD_ROOT": str(built.root / "../copy")}}
    done(built, "--root", "../copy", "verify", **copy)
    done(built, "--root", "../copy", "run", **copy)
    assert len(provider.requests) == calls
    fails(built, "not there yet", "restore", "../b.tar.zst", "--into", "../copy")
    fails(built, "makes a root of a backup", "restore", "../b.tar.zst")
    fails(built, "holds something else", "backup", "-o", "../b.tar.zst")


# --- kill -9 ---


def killed(
    workspace: Workspace, stride: int, command: list[str], prepare: Callable[[], object]
) -> Iterable[int]:
    """Run a command again and again, each time killed some steps later, until it is not."""
    steps = 0
    code = None
    while code != 0:
        prepare()
        code = run_killed(workspace, steps, *command)
        assert code in (0, -9)
        yield steps
        steps += 1 if EVERY else stride
    assert steps > 15  # the steps were really counted


def proven(workspace: Workspace) -> bool:
    return verify.verify(Root(workspace.root)).proven


def test_killed_while_it_archives(built: Workspace) -> None:
    """The job stands whole until its archive does, and the next command ends what was begun."""
    before = built.tree(FIRST)
    command = ["archive", "first", "-o", "a.tar.zst", "--remove"]
    file = built.root / "a.tar.zst"

    def prepare() -> None:
        if file.exists():
            if built.states("first") == []:
                done(built, "restore", "a.tar.zst")
            file.unlink()

    for steps in killed(built, 5, command, prepare):
        if not file.exists():
            assert built.tree(FIRST) == before, steps
        assert proven(built), steps
        done(built, *command)
        assert built.states("first") == []
        done(built, "restore", "a.tar.zst")
        assert built.tree(FIRST) == before, steps


def test_killed_while_it_restores(built: Workspace) -> None:
    """The job is there as it was, or as the archive has it; the next command ends it, and leaves
    nothing behind. One that was not there: test_matrix."""
    done(built, "archive", "first", "-o", "a.tar.zst")
    old = built.tree(FIRST)
    built.seed("first", {"topic": "tides", "tone": "plain"})
    done(built, "run", "first")
    done(built, "archive", "first", "-o", "b.tar.zst")
    other = built.tree(FIRST)
    command = ["restore", "a.tar.zst", "--force"]

    def prepare() -> None:
        done(built, "restore", "b.tar.zst", "--force")

    for steps in killed(built, 17, command, prepare):
        assert built.tree(FIRST) in (old, other), steps
        done(built, *command)
        assert built.tree(FIRST) == old, steps
        assert [path for path in left_over(built) if "previous" not in path.parts] == []
        assert proven(built), steps
