"""MovieLens 100K, 1M and latest (https://grouplens.org/datasets/movielens): every rating is an event with its value.

The title is the movie's, the genres are the body, the first genre is the category. A user who rates a movie twice
keeps the first rating: a movie that was had is no candidate again.
"""

from collections.abc import Mapping
from pathlib import Path

import polars as pl

from penstock.data.dataset import Dataset
from penstock.data.importers.assembly import assemble
from penstock.data.importers.files import find_file, read_csv, read_rows
from penstock.data.importers.reconciliation import Reconciliation, sift
from penstock.errors import SchemaError
from penstock.records import AT

RATING_FIELDS = ("user_id", "item_id", "stars", "seconds")
GENRES_100K = [
    "unknown",
    "Action",
    "Adventure",
    "Animation",
    "Children's",
    "Comedy",
    "Crime",
    "Documentary",
    "Drama",
    "Fantasy",
    "Film-Noir",
    "Horror",
    "Musical",
    "Mystery",
    "Romance",
    "Sci-Fi",
    "Thriller",
    "War",
    "Western",
]
LATIN = "iso-8859-1"


def import_movielens(source: Path, mapping: Mapping[str, str]) -> tuple[Dataset, Reconciliation]:
    """Read a MovieLens folder; which of the three releases it is shows in its file names.

    Raises:
        SchemaError: no ratings or movies file, or not MovieLens's.
        EmptyWindow: no rating could be kept.
    """
    path = find_file(source, ("u.data", "ratings.dat", "ratings.csv"), "MovieLens ratings")
    name, ratings, movies = _RELEASES[path.suffix](path)
    kept, rejected = sift(
        ratings.with_columns(
            value=pl.col("stars").cast(pl.Float64, strict=False), whole=pl.col("seconds").cast(pl.Int64, strict=False)
        ),
        {
            "not four columns": pl.col("fields") != len(RATING_FIELDS),
            "no user or movie id": pl.col("user_id").is_null() | pl.col("item_id").is_null(),
            "rating is not a number from 0.5 to 5": ~(pl.col("value").is_between(0.5, 5.0).fill_null(False)),
            "time is not in whole seconds": pl.col("whole").is_null(),
        },
    )
    kept, again = sift(
        kept.sort("whole", "_row"),
        {"movie rated before by this user": ~pl.struct("user_id", "item_id").is_first_distinct()},
    )
    events = kept.select(
        "user_id",
        "item_id",
        "value",
        event_id=pl.lit("ml-") + pl.col("_row").cast(pl.String).str.zfill(9),
        at=(pl.col("whole") * 1_000_000).cast(AT),
        kind=pl.lit("rating"),
    )
    dataset = assemble(events, movies, name, name, repeats=False, logged="positives")
    return dataset, Reconciliation(len(ratings), len(kept), rejected | again)


def _read_100k(path: Path) -> tuple[str, pl.DataFrame, pl.DataFrame]:
    flags = tuple(f"flag{place}" for place in range(len(GENRES_100K)))
    fields = ("item_id", "title", "released", "video", "url", *flags)
    movies = _movies(path.with_name("u.item"), "|", fields)
    genres = pl.concat_list(
        [pl.when(pl.col(flag) == "1").then(pl.lit(genre)) for flag, genre in zip(flags, GENRES_100K, strict=True)]
    ).list.drop_nulls()
    released = pl.col("released").str.to_datetime("%d-%b-%Y", strict=False, time_unit="us", time_zone="UTC")
    table = movies.select("item_id", "title", genres=genres, published_at=released)
    return "movielens-100k", read_rows(path, "\t", RATING_FIELDS), _catalogue(table)


def _read_1m(path: Path) -> tuple[str, pl.DataFrame, pl.DataFrame]:
    movies = _movies(path.with_name("movies.dat"), "::", ("item_id", "title", "genres"))
    return "movielens-1m", read_rows(path, "::", RATING_FIELDS), _catalogue(_with_year(movies))


def _read_latest(path: Path) -> tuple[str, pl.DataFrame, pl.DataFrame]:
    ratings = read_csv(path, ("userId", "movieId", "rating", "timestamp"))
    movies = read_csv(path.with_name("movies.csv"), ("movieId", "title", "genres")).rename({"movieId": "item_id"})
    renamed = ratings.select(
        "_row",
        user_id="userId",
        item_id="movieId",
        stars="rating",
        seconds="timestamp",
        fields=pl.lit(len(RATING_FIELDS)),
    )
    return "movielens-latest", renamed, _catalogue(_with_year(movies))


_RELEASES = {".data": _read_100k, ".dat": _read_1m, ".csv": _read_latest}


def _movies(path: Path, separator: str, fields: tuple[str, ...]) -> pl.DataFrame:
    movies = read_rows(path, separator, fields, LATIN)
    broken = movies.filter(pl.col("fields") != len(fields))
    if len(broken):
        raise SchemaError(
            f"{path}, line {broken['_row'][0] + 1} has {broken['fields'][0]} columns, expected {len(fields)} "
            f"separated by {separator} ({len(broken)} such lines); fetch the release again"
        )
    return movies


def _with_year(movies: pl.DataFrame) -> pl.DataFrame:
    year = pl.col("title").str.extract(r"\((\d{4})\)\s*$").cast(pl.Int32)
    genres = pl.col("genres").str.split("|").list.filter(pl.element() != "(no genres listed)")
    return movies.select("item_id", "title", genres=genres, published_at=pl.datetime(year, 1, 1, time_zone="UTC"))


def _catalogue(movies: pl.DataFrame) -> pl.DataFrame:
    body = pl.col("genres").list.join(", ")
    return movies.select(
        "item_id", "title", "published_at", body=pl.when(body != "").then(body), category=pl.col("genres").list.first()
    ).unique("item_id", keep="first", maintain_order=True)
