from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from emoverse.cli import app
from emoverse.emt import charts, dataset
from emoverse.emt.card import SOURCES, write_card
from emoverse.emt.record import Record, dump_records
from emoverse.emt.statistics import PAPER, PAPER_ENTRIES, spread, statistics
from emoverse.errors import EmoVerseError
from tests.emt import made

LINES = [("Ann", "Look at that!"), ("Bob", "Oh, I see it now.")]


@pytest.fixture
def emt(tmp_path: Path) -> Path:
    folder = tmp_path / "EMT"
    train = made.meld("train", 0, LINES) + made.ecf("train", 3, LINES, {1: [1], 2: [1, 2]})
    dump_records(folder / "train.jsonl", [*train, made.photo("p", "train", "crops/p.png")])
    valid = [*made.meld("valid", 0, LINES[:1]), made.reason("1", "valid", "clip.mp4")]
    dump_records(folder / "valid.jsonl", valid)
    return folder


def test_the_papers_table_adds_up() -> None:
    assert PAPER["msa"] + PAPER["ecpe"] == PAPER_ENTRIES


def test_records_are_counted_by_task_split_source_and_label(emt: Path) -> None:
    counts = statistics(dataset.read(emt))
    assert counts["records"] == 10
    # Three utterances, two targets, a photo, a reason's clip.
    assert counts["entries"] == 7
    er = counts["tasks"]["er"]
    assert er["splits"] == {"train": 2, "valid": 1}
    assert er["sources"] == {"meld": {"train": 2, "valid": 1}}
    assert er["labels"] == {"train": {"joy": 2}, "valid": {"joy": 1}}
    assert er["lengths"]["text"] == {
        "n": 3, "min": 3, "median": 3, "mean": 3.67, "p95": 5, "max": 5
    }  # fmt: skip
    assert counts["tasks"]["ecpe"]["labels"] == {"train": {"surprise": 2}}
    assert counts["tasks"]["fer"]["labels"] == {"train": {"AU04": 1, "AU07": 1}}
    assert [counts["tasks"][task]["media"] for task in ("fer", "eri", "msa")] == [1, 1, 0]
    assert counts["causes"] == {0: 2, 1: 1}
    assert counts["words"] == {3: 2, 5: 1}
    assert counts["samples"]["ecf"] == {"train": 1}
    assert counts["hours"] == {"meld": 0.0}


def test_authors_records_are_counted_by_their_wording() -> None:
    record = Record("The person says: 'x' <emotion> ...", "Happy.", "er", "0")
    counts = statistics({"official": [record]})
    assert counts["tasks"]["er"]["labels"] == {"official": {"joy": 1}}
    assert counts["tasks"]["er"]["sources"] == {"unnamed": {"official": 1}}


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=60))
def test_a_spread_lies_within_its_values(values: list[int]) -> None:
    told = spread(values)
    assert told["n"] == len(values)
    assert told["min"] == min(values) <= told["median"] <= told["p95"] or len(values) < 3
    assert told["p95"] <= told["max"] == max(values)
    assert min(values) - 0.01 <= told["mean"] <= max(values) + 0.01


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmoVerseError, match=r"no train\.jsonl"):
        dataset.read(tmp_path)


def test_the_command_shows_table_one_beside_ours(emt: Path) -> None:
    done = CliRunner().invoke(app, ["stats", str(emt)])
    assert done.exit_code == 0
    for figure in ("25,859", "15,870", "4,839", "7,081", "32,940"):
        assert figure in done.stdout
    done = CliRunner().invoke(app, ["stats", str(emt), "--json", "-"])
    assert json.loads(done.stdout)["entries"] == 7


def test_the_card_names_sources_terms_inputs_and_findings(emt: Path) -> None:
    (emt / "build.json").write_text('{"context": true, "skipped": 3, "dropped": {"leak": 5}}')
    (emt / "manifest.json").write_text(
        json.dumps({"inputs": [{"file": "train_sent_emo.csv", "sha256": "ab" * 32}]})
    )
    (emt / "quality.json").write_text('{"summary": {"pace": {"findings": 17}}}')
    done = CliRunner().invoke(app, ["stats", str(emt), "--card"])
    assert done.exit_code == 0
    card = (emt / "README.md").read_text()
    assert card.startswith("---\nlicense: other\n")
    for name in ("meld", "ecf", "photo", "merr"):
        assert SOURCES[name].title in card
        assert SOURCES[name].terms in card
    assert SOURCES["mosei"].title not in card
    assert "`train_sent_emo.csv`" in card
    assert "3 rows of the corpora were skipped" in card
    assert "5 training records were left out" in card
    assert "| clips too short or too long for their words | 17 |" in card
    for line in card.splitlines():
        if line.startswith("!["):
            drawn = emt / line[line.index("(") + 1 : -1]
            assert ET.parse(drawn).getroot().tag == "{http://www.w3.org/2000/svg}svg"


def test_the_card_is_the_same_bytes_again(emt: Path) -> None:
    splits = dataset.read(emt)
    first = write_card(splits, emt).read_bytes()
    assert write_card(splits, emt).read_bytes() == first


@given(
    st.dictionaries(
        st.text(max_size=8), st.dictionaries(st.text(max_size=8), st.floats(0, 1e6)), max_size=3
    )
)
def test_charts_are_well_formed_whatever_the_names(series: dict[str, dict[str, float]]) -> None:
    clean = {
        name.encode("ascii", "ignore").decode().translate(dict.fromkeys(range(32))): {
            key.encode("ascii", "ignore").decode().translate(dict.fromkeys(range(32))): value
            for key, value in values.items()
        }
        for name, values in series.items()
    }
    root = ET.fromstring(charts.bars("A & <b>", clean))
    widths = [
        float(shape.get("width", 0)) for shape in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert max(widths) <= 720


def test_columns_are_as_tall_as_their_values() -> None:
    root = ET.fromstring(charts.columns("t", [("a", 10), ("b", 5), ("c", 0)], "x"))
    tall = [
        float(shape.get("height", 0)) for shape in root.iter("{http://www.w3.org/2000/svg}rect")
    ]
    assert tall[1] == 2 * tall[2]
    assert tall[3] == 0
