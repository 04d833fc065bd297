"""Tiny hand-made files of each source's shape, traps included; the real files' counts where they are at hand."""

import gzip
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from penstock.data.dataset import Dataset, read_dataset
from penstock.data.importers import IMPORTERS, Reconciliation, import_source
from penstock.data.importers.times import read_times
from penstock.data.requests import group_requests
from penstock.errors import DataError, EmptyWindow, SchemaError

GAINS = {"impression": 0.0, "history": 0.0, "click": 1.0, "purchase": 3.0, "rating": 1.0, "label": 1.0}


def imported(kind: str, source: Path, **mapping: str) -> tuple[Dataset, Reconciliation]:
    into = source.parent / "into"
    reconciliation = import_source(kind, source, into, mapping)
    return read_dataset(into), reconciliation


def write(path: Path, *lines: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
    return path


@pytest.fixture
def mind(tmp_path: Path) -> Path:
    write(
        tmp_path / "mind" / "behaviors.tsv",
        "2\tU1\t11/12/2019 2:14:46 PM\tN9\tN1-0 N2-1",
        "1\tU1\t11/9/2019 12:05:00 AM\tN7 N8 N7\tN2-1 N1-0 N3-1",
        "3\tU2\t11/9/2019 6:42:51 PM\t\tN1-0",
        "4\tU2\tyesterday\t\tN1-0",
        "5\tU2\t11/9/2019 6:42:51 PM\t\tN1-2",
        "6\tU2\t11/9/2019 6:42:51 PM\tN1-0",
        "1\tU2\t11/9/2019 6:42:51 PM\t\tN1-0",
    )
    write(
        tmp_path / "mind" / "news.tsv",
        'N1\tnews\tworld\tShe said "yes\tAn abstract\thttp://x\t[]\t[]',
        "N2\tsports\tgolf\tBirdie\t\thttp://x\t[]\t[]",
    )
    return tmp_path / "mind"


def test_mind_keeps_impressions_clicks_and_the_first_history(mind: Path) -> None:
    dataset, reconciliation = imported("mind", mind)
    assert reconciliation == Reconciliation(
        7,
        3,
        {
            "not five columns": 1,
            "time is not MM/DD/YYYY h:mm:ss AM/PM": 1,
            "a shown item is not id-0 or id-1": 1,
            "impression id seen before": 1,
        },
    )
    history = dataset.events.filter(kind="history")
    midnight = datetime(2019, 11, 9, 0, 5, tzinfo=UTC)
    assert history["item_id"].to_list() == ["N7", "N8", "N7"], "of the earliest row, in its order; N9 came later"
    assert history["at"].to_list() == [midnight - timedelta(microseconds=back) for back in (3, 2, 1)]
    assert history["request_id"].null_count() == 3
    first, second, last = group_requests(dataset.events, GAINS, 4.0).to_dicts()
    assert (first["shown"], first["relevant"]) == (["N2", "N1", "N3"], ["N2", "N3"])
    assert first["at"] == midnight
    assert second["relevant"] == []
    assert last["at"] == datetime(2019, 11, 12, 14, 14, 46, tzinfo=UTC)


def test_mind_keeps_quotes_and_items_without_text(mind: Path) -> None:
    catalogue = imported("mind", mind)[0].catalogue
    assert dict(catalogue.select("item_id", "title").iter_rows()) == {
        "N1": 'She said "yes', "N2": "Birdie", "N3": "(no text)", "N7": "(no text)", "N8": "(no text)",
    }  # fmt: skip
    assert catalogue.filter(item_id="N2").select("body", "category", "attributes").row(0) == (
        None, "sports", '{"subcategory":"golf"}',
    )  # fmt: skip


def test_mind_without_its_catalogue_says_what_is_missing(mind: Path) -> None:
    (mind / "news.tsv").unlink()
    with pytest.raises(SchemaError, match=r"no MIND catalogue there, expected news.tsv, found behaviors.tsv"):
        imported("mind", mind)


def test_a_broken_catalogue_line_is_numbered(mind: Path) -> None:
    write(mind / "news.tsv", "N1\ta\tb\tc\td\te\tf\tg", "N2\tsports")
    with pytest.raises(SchemaError, match=r"news.tsv, line 2 has 2 columns, expected 8"):
        imported("mind", mind)
    write(mind / "movies.dat", "1::A")
    write(mind / "ratings.dat", "1::2::4::100")
    with pytest.raises(SchemaError, match=r"movies.dat, line 1 has 2 columns, expected 3 separated by ::"):
        imported("movielens", mind)


def test_movielens_100k(tmp_path: Path) -> None:
    flags = "|".join("1" if place in (1, 3) else "0" for place in range(19))
    write(tmp_path / "ml" / "u.item", f"7|Café (1995)|01-Mar-1995||http://x|{flags}", encoding="iso-8859-1")
    write(
        tmp_path / "ml" / "u.data", "u\t7\t5\t20", "v\t7\t2\t10", "u\t7\t1\t30", "u\t8\t6\t5", "u\t8\tnan\t5", "u\t8\t4"
    )
    dataset, reconciliation = imported("movielens", tmp_path / "ml")
    assert reconciliation.rejected == {
        "not four columns": 1,
        "rating is not a number from 0.5 to 5": 2,
        "movie rated before by this user": 1,
    }
    assert dataset.events.select("user_id", "value").rows() == [("v", 2.0), ("u", 5.0)]
    assert dataset.events["at"].to_list() == [datetime(1970, 1, 1, 0, 0, second, tzinfo=UTC) for second in (10, 20)]
    assert dataset.catalogue.select("title", "body", "category", "published_at").row(0) == (
        "Café (1995)", "Action, Animation", "Action", datetime(1995, 3, 1, tzinfo=UTC),
    )  # fmt: skip
    assert not dataset.meta.repeats
    assert dataset.meta.logged == "positives"


def test_movielens_1m_and_latest_say_the_same(tmp_path: Path) -> None:
    write(tmp_path / "1m" / "ratings.dat", "1::2::4::100")
    write(tmp_path / "1m" / "movies.dat", "2::Amélie, a: life (2001)::Comedy|Romance", encoding="iso-8859-1")
    write(tmp_path / "new" / "ratings.csv", "userId,movieId,rating,timestamp", "1,2,4.0,100")
    write(tmp_path / "new" / "movies.csv", "movieId,title,genres", '2,"Amélie, a: life (2001)",Comedy|Romance')
    old, new = (imported("movielens", tmp_path / name)[0] for name in ("1m", "new"))
    assert old.events.equals(new.events)
    assert old.catalogue.equals(new.catalogue)
    assert new.catalogue.select("title", "body", "published_at").row(0) == (
        "Amélie, a: life (2001)", "Comedy, Romance", datetime(2001, 1, 1, tzinfo=UTC),
    )  # fmt: skip


RETAIL = (
    "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country",
    '10,00001A,"TIN, RED",2,2011-01-01 10:00:00,1.5,17850.0,UK',
    "10,00001A,TIN RED,1,2011-01-01 10:00:00,1.5,17850.0,UK",
    "11,00001A,TIN RED,1,2011-01-02 10:00:00,1.5,17850.0,UK",
    "C12,00001A,TIN RED,-1,2011-01-02 10:00:00,1.5,17850.0,UK",
    "13,00001A,TIN RED,1,2011-01-02 10:00:00,1.5,,UK",
    "14,POST,POSTAGE,1,2011-01-02 10:00:00,18,17850.0,UK",
    "15,00002,MUG,0,2011-01-02 10:00:00,1,17850.0,UK",
    "16,00002,,1,2011-01-02 10:00:00,0,17851.0,UK",
)


def test_online_retail_merges_lines_and_counts_every_row(tmp_path: Path) -> None:
    path = tmp_path / "shop" / "online-retail.csv.gz"
    path.parent.mkdir()
    path.write_bytes(gzip.compress(("\n".join(RETAIL) + "\n").encode()))
    dataset, reconciliation = imported("online-retail", path.parent)
    assert reconciliation == Reconciliation(
        8,
        3,
        {
            "no customer": 1,
            "cancellation": 1,
            "quantity not above zero": 1,
            "code is not a product": 1,
            "merged into an earlier line of its invoice": 1,
        },
    )
    assert dataset.events.select("user_id", "item_id", "value").rows() == [
        ("17850", "00001A", 4.5), ("17850", "00001A", 1.5), ("17851", "00002", 0.0),
    ]  # fmt: skip
    assert dict(dataset.catalogue.select("item_id", "title").iter_rows()) == {"00001A": "TIN RED", "00002": "(no text)"}
    assert dataset.meta.repeats


def test_a_cut_gzip_and_a_missing_column_are_named(tmp_path: Path) -> None:
    path = tmp_path / "shop" / "online-retail.csv"
    write(path, RETAIL[0].replace("CustomerID", "Customer"), *RETAIL[1:])
    with pytest.raises(SchemaError, match=r"online-retail.csv: column CustomerID is missing, found InvoiceNo"):
        imported("online-retail", path)
    path.write_bytes(gzip.compress(b"x" * 5000)[:-12])
    with pytest.raises(SchemaError, match="damaged gzip file"):
        imported("online-retail", path)


def test_labels_without_time_get_an_order_and_say_so(tmp_path: Path) -> None:
    path = write(tmp_path / "bank" / "train.csv", "text,category", *[f"question {n},card_lost" for n in range(9)], ",x")
    dataset, reconciliation = imported("labels", path.parent)
    assert reconciliation == Reconciliation(10, 9, {"no text": 1})
    assert dataset.catalogue.select("item_id", "title").rows() == [("card_lost", "card lost")]
    assert dataset.meta.task == "classify"
    assert "made up" in dataset.meta.source
    texts = dataset.events["query"].to_list()
    assert sorted(texts) == [f"question {n}" for n in range(9)] != texts
    assert set(dataset.events["user_id"]) == {"-"}
    assert len(group_requests(dataset.events, GAINS, 4.0)) == 9


def test_gold_news_reads_three_spellings_of_a_date(tmp_path: Path) -> None:
    path = write(
        tmp_path / "gold" / "news.csv",
        "Dates\tURL\tNews\tPrice Sentiment",
        '28-01-2016\thttp://x/a\t"april gold, down"\tnegative',
        "2/3/2016\thttp://x/b\tgold up\tpositive",
        "0201-04-27\thttp://x/gold-2015-04-27\tgold flat\tneutral",
        "0201-04-27\thttp://x/gold\tgold lost\tneutral",
    )
    dataset, reconciliation = imported("labels", path)
    assert reconciliation.rejected == {"time cannot be read": 1}
    assert dataset.events.select("query", pl.col("at").dt.date().cast(pl.String)).rows() == [
        ("gold flat", "2015-04-27"),
        ("april gold, down", "2016-01-28"),
        ("gold up", "2016-03-02"),
    ]


def test_labels_of_any_file_through_a_mapping(tmp_path: Path) -> None:
    path = write(
        tmp_path / "own" / "clicks.tsv", "headline\tclicked\twhen", "Gold\tyes\t2020-01-01", "Tin\tno\t2020-01-02"
    )
    dataset, _ = imported("labels", path, headline="text", clicked="label", when="at")
    assert dataset.events.select("query", "item_id").rows() == [("Gold", "yes"), ("Tin", "no")]
    with pytest.raises(SchemaError, match="does not fit labelled texts"):
        imported("labels", path, headline="text")
    with pytest.raises(SchemaError, match="headline, clicked, when are neither"):
        imported("labels", path)


MAPPING = {
    "who": "user_id",
    "what": "item_id",
    "when": "at",
    "how": "kind",
    "stars": "value",
    "name": "title",
    "id": "event_id",
}
LOG = (
    "id,who,what,when,how,stars,name",
    "a,u,i,2020-01-01T00:00:00Z,click,,Old",
    "b,u,i,2020-01-02 00:00:00,rating,4.5,New",
    "c,u,i,later,click,,",
    "d,,i,2020-01-01,click,,",
    "e,u,,2020-01-01,click,,",
    "f,u,i,2020-01-01,rating,NaN,",
    "g,u,i,2020-01-01,rating,four,",
    "b,u,i,2020-01-01,click,,",
    "h,u,i,2020-01-01,,,",
    "k,u,i,,click,,",
)


def test_a_mapped_table_accounts_for_every_row(tmp_path: Path) -> None:
    dataset, reconciliation = imported("table", write(tmp_path / "own" / "log.csv", *LOG), **MAPPING)
    assert reconciliation == Reconciliation(
        10,
        2,
        {
            "no user_id": 1, "no item_id": 1, "at cannot be read": 1, "value cannot be read": 2, "no at": 1,
            "no kind": 1, "event_id seen before": 1,
        },
    )  # fmt: skip
    assert dataset.events["at"].to_list() == [datetime(2020, 1, day, tzinfo=UTC) for day in (1, 2)]
    assert dataset.catalogue["title"].to_list() == ["New"], "the newest text"


def test_csv_jsonl_and_parquet_give_the_same_dataset(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        {"row": [4, 5], "who": ["1", "2"], "what": ["i", "j"], "ms": [1_577_836_800_000, 1_577_836_801_000]}
    )
    folder = tmp_path / "own"
    folder.mkdir()
    frame.write_csv(folder / "log.csv")
    frame.write_ndjson(folder / "log.jsonl")
    frame.write_parquet(folder / "log.parquet")
    mapping = {"who": "user_id", "what": "item_id", "ms": "at"}
    csv, jsonl, parquet = (
        imported("table", folder / f"log.{kind}", **mapping)[0] for kind in ("csv", "jsonl", "parquet")
    )
    assert csv.events.equals(jsonl.events)
    assert csv.events.equals(parquet.events)
    assert csv.events["kind"].to_list() == ["click", "click"]
    assert csv.events["at"][0] == datetime(2020, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nobody": "query"}, "column nobody is missing, found id, who"),
        ({"stars": "rank"}, "field rank, expected one of event_id, user_id"),
        ({"stars": "title"}, "two columns for title"),
        ({"when": "received_at"}, "no column for at"),
    ],
)
def test_a_mapping_that_does_not_fit_is_explained(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        imported("table", write(tmp_path / "own" / "log.csv", *LOG), **(MAPPING | change))


def test_bytes_that_are_not_utf8_are_placed(tmp_path: Path) -> None:
    path = write(tmp_path / "own" / "log.csv", LOG[0], "a,u,i,2020-01-01,click,,Café", encoding="iso-8859-1")
    with pytest.raises(SchemaError, match=r"log.csv, line 2: byte 0xe9 is not utf-8"):
        imported("table", path, **MAPPING)


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("log.csv", [LOG[0], LOG[1], LOG[2] + ",more"], "line 3 holds 8 fields, the header 7"),
        ("log.tsv", ["a\tb", "1\t2", "1\t2\t3"], "line 3 holds 3 fields, the header 2"),
        (
            "log.csv",
            [LOG[0], LOG[1], '"b,u', LOG[2]],
            "the row that begins in line 3 cannot be read .*, see its quotes",
        ),
        ("log.jsonl", ['{"a": 1}', "", "{a"], "line 3: Expecting property name"),
        ("log.jsonl", ['{"a": 1}', "[1]"], "line 2 holds JSON list, expected an object"),
    ],
)
def test_the_first_broken_line_is_named(tmp_path: Path, name: str, lines: list[str], message: str) -> None:
    with pytest.raises(SchemaError, match=rf"{name} (is no table|cannot be read as JSON lines).*: {message}"):
        imported("table", write(tmp_path / "own" / name, *lines), **MAPPING)


def test_nothing_kept_writes_nothing(tmp_path: Path) -> None:
    german = LOG[3].replace("later", "3.1.2020")
    path = write(tmp_path / "own" / "log.csv", LOG[0], german, german)
    with pytest.raises(EmptyWindow, match=r"none of 2 rows could be kept \(at cannot be read: 2\); times are read as"):
        imported("table", path, **MAPPING)
    bare = write(tmp_path / "own" / "bare.csv", LOG[0])
    with pytest.raises(EmptyWindow, match="holds none"):
        imported("table", bare, **MAPPING)
    assert not (tmp_path / "own" / "into").exists()


def test_a_foreign_file_an_unknown_importer_and_a_stray_mapping(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match=r"log.xlsx ends in .xlsx, expected .csv"):
        imported("table", write(tmp_path / "own" / "log.xlsx", "x"), a="at")
    with pytest.raises(DataError, match="no importer 'netflix', expected one of mind, movielens"):
        import_source("netflix", tmp_path, tmp_path / "into", {})
    with pytest.raises(DataError, match="given for mind"):
        import_source("mind", tmp_path, tmp_path / "into", {"a": "at"})


def test_times_in_every_form() -> None:
    noon = datetime(2020, 1, 1, 12, tzinfo=UTC)
    texts = [
        "2020-01-01T12:00:00Z",
        "2020-01-01 13:00:00+01:00",
        "2020-01-01T12:00:00.000000",
        "2020-01-01 12:00",
        "1577880000",
    ]
    assert read_times(pl.Series(texts)).to_list() == [noon] * 5
    assert read_times(pl.Series([1577880000000000])).to_list() == [noon]
    assert read_times(pl.Series(["never", "nan", "1e300", None])).to_list() == [None] * 4
    assert read_times(pl.Series([noon.replace(tzinfo=None)])).to_list() == [noon]
    assert read_times(pl.Series([noon.date()])).to_list() == [noon.replace(hour=0)]


def test_a_reconciliation_that_does_not_add_up_is_refused() -> None:
    with pytest.raises(DataError, match="3 rows read, 1 kept"):
        Reconciliation(3, 1, {"lost": 1})


REAL = [
    ("mind", "mind-small-subset", 3_058, 3_058, 201_892, 2_916, 18_939),
    ("movielens", "movielens-100k", 100_000, 100_000, 100_000, 943, 1_682),
    ("online-retail", "online-retail", 541_909, 386_354, 386_354, 4_335, 3_659),
    ("labels", "banking77", 10_003, 10_003, 10_003, 1, 77),
    ("labels", "gold-commodity-news", 10_570, 10_563, 10_563, 1, 4),
]


@pytest.mark.skipif("PENSTOCK_REAL_DATA" not in os.environ, reason="PENSTOCK_REAL_DATA names no folder of real data")
@pytest.mark.parametrize(("kind", "folder", "read", "kept", "events", "users", "items"), REAL)
def test_real_files(kind: str, folder: str, read: int, kept: int, events: int, users: int, items: int) -> None:
    dataset, reconciliation = IMPORTERS[kind](Path(os.environ["PENSTOCK_REAL_DATA"]) / folder, {})
    assert (reconciliation.read, reconciliation.kept) == (read, kept)
    found = (len(dataset.events), dataset.events["user_id"].n_unique(), len(dataset.catalogue))
    assert found == (events, users, items)
