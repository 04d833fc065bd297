"""What goes in and out over HTTP, as types with examples; OpenAPI and the page at /docs are made from these.

Every answer names the version that made it and its digest (null while none is loaded), and a request_id: send it back
with the events that follow, so that what was shown and what was chosen meet in one request.
"""

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from penstock.serving.limits import Name, Text

Id = Annotated[Name, Field(min_length=1, max_length=256)]
Query = Annotated[Text, Field(max_length=20_000)]
MAX_HISTORY, MAX_FILTER, MAX_TEXTS = 1_000, 1_000, 256
VERSION_EXAMPLE: dict[str, Any] = {
    "request_id": "4be0643f1d98573b97cdca98a65347dd",
    "version": "7",
    "digest": "9f2c51…",
}


class Strict(BaseModel):
    """A body in which an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PastEvent(Strict):
    """One thing the user did; `at`: ISO-8601 with a zone, now when absent."""

    item_id: Id
    kind: Id = "click"
    at: AwareDatetime | None = None


class Filters(Strict):
    """What may be shown. `category`: any of these, all when empty; `exclude`: item ids never to be shown.

    `exclude_seen`: leave out what the user had; left out itself, as the data says (`data.repeats`).
    """

    category: tuple[Text, ...] = Field(default=(), max_length=MAX_FILTER)
    exclude: tuple[Text, ...] = Field(default=(), max_length=MAX_FILTER)
    exclude_seen: bool | None = None


class RecommendationRequest(Strict):
    """Who asks: a known user, or a history given here; neither gives popular and fresh items."""

    user_id: Id | None = None
    history: list[PastEvent] | None = Field(default=None, max_length=MAX_HISTORY)
    query: Query | None = Field(default=None, description="free text: a search, a customer's question")
    k: int = Field(default=10, ge=1, strict=True, description="how many items; at most service.max_k")
    filters: Filters = Filters()

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"user_id": "u17", "k": 10},
                {
                    "history": [{"item_id": "i42", "kind": "click", "at": "2026-03-01T09:30:00Z"}],
                    "query": "light rain jacket",
                    "k": 5,
                    "filters": {"category": ["outdoor"], "exclude": ["i7"], "exclude_seen": True},
                },
            ]
        }
    )

    @model_validator(mode="after")
    def _one_user(self) -> "RecommendationRequest":
        if self.user_id is not None and self.history is not None:
            raise ValueError("both user_id and history are given; send one: a known user, or a history of its own")
        return self


class EventIn(Strict):
    """One event; the journal judges kind, value and time. `event_id` makes a repeated POST harmless."""

    event_id: Text
    user_id: Text
    item_id: Text
    kind: Text
    at: AwareDatetime | None = Field(default=None, description="when it happened; now when absent")
    value: float | None = Field(default=None, allow_inf_nan=False, description="rating or amount")
    request_id: Text | None = Field(default=None, description="of the recommendation that showed the item")
    position: int | None = Field(default=None, ge=0, le=2**31 - 1, description="0-based rank at which it was shown")
    propensity: float | None = Field(default=None, gt=0, le=1)
    query: Text | None = None


EVENT_EXAMPLE: dict[str, Any] = {
    "event_id": "e-81",
    "user_id": "u17",
    "item_id": "i42",
    "kind": "click",
    "at": "2026-03-01T09:30:00Z",
    "request_id": VERSION_EXAMPLE["request_id"],
    "position": 3,
}


class EventBatch(Strict):
    """Several events at once; at most service.max_batch."""

    events: list[EventIn] = Field(min_length=1)

    model_config = ConfigDict(json_schema_extra={"examples": [{"events": [EVENT_EXAMPLE]}]})


def _form(body: Any) -> str:
    return "batch" if isinstance(body, EventBatch) or (isinstance(body, dict) and "events" in body) else "event"


Events = Annotated[Annotated[EventBatch, Tag("batch")] | Annotated[EventIn, Tag("event")], Discriminator(_form)]
"""One event or a batch; told apart by the key `events`, so that an error speaks of the form that was meant."""


Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Attribute = Annotated[Text, Field(max_length=2_000)] | bool | Whole | Number


class NewItem(Strict):
    """One item of the catalogue; `attributes` is what business rules speak of."""

    item_id: Id
    title: Annotated[Name, Field(max_length=20_000)]
    body: Query | None = None
    category: Annotated[Name, Field(max_length=256)] | None = None
    published_at: AwareDatetime | None = Field(default=None, description="now when absent")
    attributes: dict[Text, Attribute | list[Attribute] | None] = Field(default={}, max_length=100)


class NewItems(Strict):
    """Items to take into the catalogue; at most service.max_batch. An id that is known already changes nothing."""

    items: list[NewItem] = Field(min_length=1)

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"items": [{"item_id": "i901", "title": "Wool blanket, undyed", "category": "outdoor"}]}]
        }
    )


class ClassificationRequest(Strict):
    """Texts to label."""

    texts: list[Query] = Field(min_length=1, max_length=MAX_TEXTS)

    model_config = ConfigDict(json_schema_extra={"examples": [{"texts": ["Gold climbs as the dollar slips"]}]})


class Decision(Strict):
    """A named person's decision, and why.

    `actor`: with a token, left out or the token's name. `seen`: the challenger's `binding` as it was shown; another one
    is refused. `nonce`: anything unique; the same one is taken once.
    """

    actor: Annotated[Name, Field(max_length=200)] | None = None
    reason: Annotated[Name, Field(max_length=2_000)]
    seen: Annotated[Text, Field(max_length=64)] | None = None
    nonce: Annotated[Name, Field(max_length=100)] | None = None

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"actor": "Ada", "reason": "gates pass, slices look fine"}]}
    )


class RollbackOrder(Strict):
    """Which earlier champion is to serve again (`to`; the one before where it is left out), and why."""

    to: Annotated[str, Field(pattern=r"^[0-9]{1,9}$")] | None = None
    actor: Annotated[Name, Field(max_length=200)] | None = None
    reason: Annotated[Name, Field(max_length=2_000)]

    model_config = ConfigDict(json_schema_extra={"examples": [{"actor": "Ada", "reason": "clicks fell"}]})


class Answer(BaseModel):
    """What every answer names."""

    request_id: str
    version: str | None = Field(description="the version that made this answer")
    digest: str | None = Field(description="of that version's bundle")


class RecommendedItem(BaseModel):
    """One placement. `why`: short reasons; `features`: what stands out, in deviations from the other candidates.

    `propensity`: the probability, over the service's dice, that this item stands at this place for this request.
    """

    item_id: str
    title: str
    category: str | None
    score: float
    source: str = Field(description="where the candidate came from")
    why: list[str]
    features: dict[str, float]
    propensity: float = Field(description="send it back with the events that follow")


class Recommendations(Answer):
    """Best first. `known_user` is false when there was no history to go by."""

    known_user: bool
    items: list[RecommendedItem]

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                VERSION_EXAMPLE
                | {
                    "known_user": True,
                    "items": [
                        {
                            "item_id": "i42",
                            "title": "Featherlight rain jacket",
                            "category": "outdoor",
                            "score": 2.31,
                            "source": "together",
                            "why": ["often taken together with what you had recently"],
                            "features": {"cooccurrence_cosine": 3.1},
                            "propensity": 1.0,
                        }
                    ],
                }
            ]
        }
    )


class RejectedEvent(BaseModel):
    """An event that was not taken, by its place in the batch."""

    index: int
    event_id: str | None
    reason: str


class EventsAccepted(Answer):
    """What became of a batch: what counts as accepted is on disk."""

    accepted: int
    duplicates: int
    rejected: list[RejectedEvent]


class ItemsAccepted(Answer):
    """What became of them: what counts as accepted is on disk, and recommendable when `version` is not null."""

    accepted: int
    known: int


class SimilarItem(BaseModel):
    """A neighbour by cosine of the item vectors."""

    item_id: str
    title: str
    category: str | None
    cosine: float


class SimilarItems(Answer):
    """Closest first, the item itself left out."""

    item_id: str
    items: list[SimilarItem]


class Users(Answer):
    """User ids, those that came last first."""

    users: list[str]


class Classification(BaseModel):
    """One text's label, and the probability of every label."""

    label: str
    probabilities: dict[str, float]


class Classifications(Answer):
    """In the order of the texts."""

    results: list[Classification]


class Problem(BaseModel):
    """What went wrong. `details`: one entry for each field at fault."""

    code: str
    message: str
    details: list[dict[str, str]] = []


class Failure(Answer):
    """Any answer that is not a success."""

    error: Problem
