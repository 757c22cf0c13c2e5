"""The document says what the program does: its tables and diagrams are made from the program, and are up to date."""

from __future__ import annotations

import re

import pytest

from p2p.job_protocol import CROSSING, PROVIDER_SAYS, REQUESTER_SAYS
from tests.protocol.diagrams import job_diagram, job_transitions
from tests.protocol.document import DOCUMENT, keys_in, made_anew, parts
from tests.protocol.spoken import PROTOCOLS, Spoken, fields_of, structs_of
from tests.protocol.words import MEANINGS

TEXT = DOCUMENT.read_text(encoding="utf-8")


def test_the_document_is_what_the_command_writes() -> None:
    assert made_anew(TEXT) == TEXT, "run `python -m tests.protocol`"


def test_every_protocol_of_ours_is_in_the_document() -> None:
    sources = [path.read_text(encoding="utf-8") for path in DOCUMENT.parent.rglob("*.py")]
    ours = {name for source in sources for name in re.findall(r'"(/starling/[a-z]+/\d+\.\d+\.\d+)"', source)}
    assert ours == {spoken.name for spoken in PROTOCOLS}


def test_every_part_that_is_made_stands_in_the_document_once() -> None:
    assert sorted(keys_in(TEXT)) == sorted(parts())


@pytest.mark.parametrize("spoken", PROTOCOLS, ids=lambda spoken: spoken.key)
def test_every_key_on_the_wire_has_a_meaning_and_no_other_has(spoken: Spoken) -> None:
    keys = {kind.__name__: {field.name for field in fields_of(kind)} for kind in structs_of(spoken)}
    assert keys == {name: set(MEANINGS[name]) for name in keys}


def test_the_transitions_are_all_in_the_table_and_those_that_move_in_the_diagram() -> None:
    table, diagram = job_transitions(), job_diagram()
    for who, says in (("R", REQUESTER_SAYS), ("P", PROVIDER_SAYS)):
        for (before, kind), after in says.items():
            tag = kind.__struct_config__.tag
            row = next(line for line in table.splitlines() if line.startswith(f"| `{before}` |"))
            assert (f"{tag} → `{after}`" if after is not before else tag) in row
            assert before is after or re.search(rf"{before} --> {after}: .*{who} {tag}\b", diagram)
    assert all(kind.__struct_config__.tag in table.split("may still arrive")[1] for _, kind in CROSSING)


def test_links_within_the_document_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors
