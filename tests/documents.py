"""Small documents of each kind, made here: nothing but the parts that a reader needs."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument"
_RELATIONS = "application/vnd.openxmlformats-package.relationships+xml"
_RELATED = f'<Relationships xmlns="{_PACKAGE}/relationships">'
_END = (
    b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF"
)


def pdf(*pages: str, encrypted: bool = False, inflated_bytes: int = 0) -> bytes:
    """A PDF with a page for each text, a line for each of its lines. `inflated_bytes` of spaces
    stand before each, packed."""
    font = "<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"
    numbers = [4 + 2 * n for n in range(len(pages))]
    kids = " ".join(f"{n} 0 R" for n in numbers)
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode(),
        font.encode(),
    ]
    for number, text in zip(numbers, pages, strict=True):
        box = "/MediaBox[0 0 600 800]/Resources<</Font<</F 3 0 R>>>>"
        objects.append(f"<</Type/Page/Parent 2 0 R{box}/Contents {number + 1} 0 R>>".encode())
        objects.append(_stream(_shown(text), inflated_bytes))
    found, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, 1):
        places.append(len(found))
        found += b"%d 0 obj\n%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    size = len(objects) + 1
    # With a key that no password gives.
    lock = b"/Encrypt<</Filter/Standard/V 1/R 2/P -4/O<%s>/U<%s>>>/ID[<00><00>]" % (
        b"11" * 32,
        b"22" * 32,
    )
    return found + _END % (size, table, size, lock if encrypted else b"", len(found))


def _shown(text: str) -> bytes:
    lines = "".join(f"({line}) Tj T* " for line in text.splitlines())
    return f"BT /F 12 Tf 14 TL 50 750 Td {lines}ET".encode()


def _stream(content: bytes, inflated_bytes: int) -> bytes:
    packer, block, count = zlib.compressobj(wbits=-15), b" " * (1 << 20), inflated_bytes >> 20
    # After a full flush the same block is packed the same.
    packed = count * (packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)) if count else b""
    checksum = 1
    for each in [*[block] * count, content]:
        checksum = zlib.adler32(each, checksum)
    tail = packer.compress(content) + packer.flush() + checksum.to_bytes(4, "big")
    data = b"\x78\x9c" + packed + tail
    return b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(data), data)


def _package(main: str, kind: str, parts: dict[str, str | Iterable[bytes]]) -> bytes:
    """An Office file: its parts, and what says where they are."""
    types = "".join(
        f'<Override PartName="/{name}" ContentType="{_TYPE}.{each}+xml"/>'
        for name, each in {main: f"{kind}.main", **_kinds(parts)}.items()
    )
    target = f'<Relationship Id="r" Type="{_OFFICE}/officeDocument" Target="{main}"/>'
    whole: dict[str, str | Iterable[bytes]] = {
        "[Content_Types].xml": f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types">'
        f'<Default Extension="rels" ContentType="{_RELATIONS}"/>'
        f'<Default Extension="xml" ContentType="application/xml"/>{types}</Types>',
        "_rels/.rels": f"{_HEAD}{_RELATED}{target}</Relationships>",
        **parts,
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, part in whole.items():
            with archive.open(name, "w", force_zip64=True) as member:
                for piece in [part.encode()] if isinstance(part, str) else part:
                    member.write(piece)
    return packed.getvalue()


def _kinds(parts: dict[str, str | Iterable[bytes]]) -> dict[str, str]:
    found = {"worksheets/": "spreadsheetml.worksheet", "slides/": "presentationml.slide"}
    return {
        name: kind
        for name in parts
        for folder, kind in found.items()
        if folder in name and not name.endswith(".rels")
    }


def _relations(*targets: str) -> str:
    kinds = [target.partition("/")[0].rstrip("s") for target in targets]
    each = "".join(
        f'<Relationship Id="r{n}" Type="{_OFFICE}/{kind}" Target="{target}"/>'
        for n, (kind, target) in enumerate(zip(kinds, targets, strict=True), 1)
    )
    return f"{_HEAD}{_RELATED}{each}</Relationships>"


def docx(*paragraphs: str, bomb_bytes: int = 0) -> bytes:
    """A Word document. With `bomb_bytes`, a last paragraph of that many letters."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = "".join(f"<w:p><w:r><w:t>{each}</w:t></w:r></w:p>" for each in paragraphs)
    head, tail = f"{_HEAD}<w:document {space}><w:body>{body}", "</w:body></w:document>"

    def pieces() -> Iterable[bytes]:
        yield f"{head}<w:p><w:r><w:t>".encode()
        for _ in range(bomb_bytes >> 20):
            yield b"a" * (1 << 20)
        yield f"</w:t></w:r></w:p>{tail}".encode()

    document = pieces() if bomb_bytes else head + tail
    return _package(
        "word/document.xml", "wordprocessingml.document", {"word/document.xml": document}
    )


def xlsx(*rows: Iterable[str]) -> bytes:
    """A workbook with one sheet of texts."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    cells = "".join(
        f'<row r="{y}">'
        + "".join(
            f'<c r="{chr(64 + x)}{y}" t="inlineStr"><is><t>{cell}</t></is></c>'
            for x, cell in enumerate(row, 1)
        )
        + "</row>"
        for y, row in enumerate(rows, 1)
    )
    worksheet = f"<worksheet {space}><sheetData>{cells}</sheetData></worksheet>"
    sheet = f'<sheets><sheet name="Sales" sheetId="1" r:id="r1" xmlns:r="{_OFFICE}"/></sheets>'
    parts: dict[str, str | Iterable[bytes]] = {
        "xl/workbook.xml": f"{_HEAD}<workbook {space}>{sheet}</workbook>",
        "xl/_rels/workbook.xml.rels": _relations("worksheets/sheet1.xml"),
        "xl/worksheets/sheet1.xml": _HEAD + worksheet,
    }
    return _package("xl/workbook.xml", "spreadsheetml.sheet", parts)


@dataclass(frozen=True)
class Formula:
    """A cell with a formula, and its value at the last time that it was computed."""

    text: str
    cached: str


def workbook(
    sheets: Mapping[str, Sequence[Sequence[object]]],
    *,
    merged: str = "",
    hidden: Collection[str] = (),
    is_bomb: bool = False,
) -> bytes:
    """A workbook whose cells have types: texts, numbers, booleans, dates, formulas, or none at all.
    `merged` are cells of each sheet. A bomb has one more cell, in the last row and column."""
    space = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    far = "<row r='1048576'><c r='XFD1048576'><v>1</v></c></row>" if is_bomb else ""
    last = f"<mergeCells count='1'><mergeCell ref='{merged}'/></mergeCells>" if merged else ""
    parts: dict[str, str | Iterable[bytes]] = {
        f"xl/worksheets/sheet{number}.xml": f"{_HEAD}<worksheet {space}><sheetData>"
        + "".join(f"<row r='{y}'>{_cells(y, row)}</row>" for y, row in enumerate(rows, 1))
        + f"{far}</sheetData>{last}</worksheet>"
        for number, rows in enumerate(sheets.values(), 1)
    }
    listed = "".join(
        f'<sheet name="{name}" sheetId="{n}" r:id="r{n}"'
        f"{' state=' + chr(34) + 'hidden' + chr(34) if name in hidden else ''}/>"
        for n, name in enumerate(sheets, 1)
    )
    dates = (
        '<cellXfs count="2"><xf numFmtId="0"/><xf numFmtId="22" applyNumberFormat="1"/></cellXfs>'
    )
    parts |= {
        "xl/workbook.xml": f'{_HEAD}<workbook {space} xmlns:r="{_OFFICE}">'
        f"<sheets>{listed}</sheets></workbook>",
        "xl/styles.xml": f"{_HEAD}<styleSheet {space}>{dates}</styleSheet>",
        "xl/_rels/workbook.xml.rels": _relations(
            *(f"worksheets/sheet{n}.xml" for n, _ in enumerate(sheets, 1)), "styles.xml"
        ),
    }
    return _package("xl/workbook.xml", "spreadsheetml.sheet", parts)


def _cells(y: int, row: Sequence[object]) -> str:
    return "".join(_cell(f"{chr(64 + x)}{y}", each) for x, each in enumerate(row, 1))


def _cell(place: str, value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return f"<c r='{place}' t='b'><v>{value:d}</v></c>"
        case int() | float():
            return f"<c r='{place}'><v>{value}</v></c>"
        case datetime():
            days = (value - datetime(1899, 12, 30)) / timedelta(days=1)
            return f"<c r='{place}' s='1'><v>{days}</v></c>"
        case Formula():
            return f"<c r='{place}' t='str'><f>{value.text}</f><v>{value.cached}</v></c>"
    return f"<c r='{place}' t='inlineStr'><is><t>{value}</t></is></c>"


def encrypted_workbook() -> bytes:
    """As much of one as says that it is: the container's mark, and the name of its part."""
    return bytes.fromhex("d0cf11e0a1b11ae1").ljust(512, b"\0") + "EncryptedPackage".encode(
        "utf-16-le"
    )


def pptx(*texts: str) -> bytes:
    """A presentation with a slide for each text."""
    space = (
        'xmlns:p="http://schemas.openxmlformats.org/presentationml/2006/main" '
        'xmlns:a="http://schemas.openxmlformats.org/drawingml/2006/main" '
        f'xmlns:r="{_OFFICE}"'
    )
    named = [f"slides/slide{n}.xml" for n, _ in enumerate(texts, 1)]
    ids = "".join(f'<p:sldId id="{255 + n}" r:id="r{n}"/>' for n, _ in enumerate(texts, 1))
    slides = {
        f"ppt/{name}": f"{_HEAD}<p:sld {space}><p:cSld><p:spTree><p:sp>"
        "<p:nvSpPr><p:cNvPr id='2' name='t'/><p:cNvSpPr/><p:nvPr/></p:nvSpPr>"
        f"<p:txBody><a:bodyPr/><a:p><a:r><a:t>{text}</a:t></a:r></a:p></p:txBody>"
        "</p:sp></p:spTree></p:cSld></p:sld>"
        for name, text in zip(named, texts, strict=True)
    }
    listed = f"<p:presentation {space}><p:sldIdLst>{ids}</p:sldIdLst></p:presentation>"
    parts: dict[str, str | Iterable[bytes]] = {
        "ppt/presentation.xml": _HEAD + listed,
        "ppt/_rels/presentation.xml.rels": _relations(*named),
        **slides,
    }
    return _package("ppt/presentation.xml", "presentationml.presentation", parts)
