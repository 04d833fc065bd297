"""What POST /v1/recommendations does, whichever way the request came in: through the framework, or the short way."""

import asyncio
from typing import Any

from fastapi import Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from penstock.errors import DataError
from penstock.features.staged import listening
from penstock.serving import api
from penstock.serving.answer_log import AnswerLog
from penstock.serving.answered import recommended
from penstock.serving.answers import Problematic, json_answer, named, request_id
from penstock.serving.policy import Policy
from penstock.serving.recommend import recommend_from, user_of
from penstock.serving.rollout import Rollouts
from penstock.serving.runtime import Runtime
from penstock.serving.served import Served
from penstock.serving.telemetry import Telemetry
from penstock.settings import ServiceSettings

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.0005, 0.008
"""An event is taken in within a millisecond or two, a query over a large catalogue is ranked within a hundred."""


class Recommender:
    """Answers from the served version, or from the challenger of a rollout; notes and counts what it answered."""

    def __init__(
        self,
        runtime: Runtime,
        settings: ServiceSettings,
        telemetry: Telemetry,
        answers: AnswerLog,
        rollouts: Rollouts,
        policy: Policy,
    ) -> None:
        self.runtime, self.settings, self.telemetry = runtime, settings, telemetry
        self.answers, self.rollouts = answers, rollouts
        self.policy, self.certain = policy, policy.without_dice()

    def answer_in_thread(self, request: Request, body: api.RecommendationRequest) -> Response:
        """As `answer`, with what was accepted before by whichever process, items too."""
        seq = self.runtime.accepted_seq()
        if self.runtime.is_behind(seq):
            self.runtime.catch_up(seq)
        try:
            return self.answer(request, body)
        except DataError:
            if not self.runtime.take_up_items():
                raise
            return self.answer(request, body)

    def answer(self, request: Request, body: api.RecommendationRequest) -> Response:
        """The response.

        Raises:
            NotReady, Problematic, DataError: there is nothing to answer from, or no such answer.
        """
        check_k(body.k, self.settings)
        if body.user_id is not None:
            body = body.model_copy(update={"user_id": self.runtime.journal.name_of(body.user_id)})
        served = self.runtime.current()
        check_task(served, "rank")
        now = self.runtime.clock()

        def rank(version: Served, shadow: bool) -> dict[str, Any]:
            policy = self.certain if shadow else self.policy
            with version.lock:
                found = recommend_from(version, body, self.settings.candidates, now, policy)
                if self.answers.enabled and not shadow:
                    self.answers.put(recommended(request_id(request), version, user_of(body, now), body, found, now))
            return found

        with listening(self.telemetry.observe_stage):
            served, answer = self.rollouts.answer(request_id(request), body.user_id, served, rank)
        self.telemetry.count_answer(served.version, [item["source"] for item in answer["items"]])
        return json_answer(named(request, served) | answer)

    async def answer_at_once(self, request: Request, body: api.RecommendationRequest) -> Response | None:
        """As `answer`, for the event loop; None where it takes too long for it."""
        if not self.is_quick(body):
            return None
        await self.until_current()
        await self.until_free()
        try:
            return self.answer(request, body)
        except DataError:
            if self.runtime.lacks_items():
                return None
            raise

    def is_quick(self, body: api.RecommendationRequest) -> bool:
        """Whether the answer takes a millisecond or two, so that the event loop may make it.

        A query is encoded; a query, a category or a rule has long lists looked through; a rollout reads the journal.
        """
        return not (body.query or body.filters.category or self.policy.rules or self.rollouts.active)

    async def until_current(self) -> None:
        """Wait until the served version has seen what was accepted before this request, by whichever process."""
        seq = self.runtime.accepted_seq()
        if self.runtime.is_behind(seq):
            await run_in_threadpool(self.runtime.catch_up, seq)

    async def until_free(self) -> None:
        """Wait, without holding the event loop up, while the served version is taking something in.

        Always once round the loop: whoever came meanwhile is counted at the door before anybody is ranked, so that
        `service.max_concurrent` turns away what would otherwise queue for longer than anybody waits.
        """
        await asyncio.sleep(0)
        pause_s, served = FIRST_PAUSE_S, self.runtime.served
        while served is not None and served.lock.locked():
            await asyncio.sleep(pause_s)
            pause_s, served = min(2 * pause_s, LONGEST_PAUSE_S), self.runtime.served


def check_k(k: int, settings: ServiceSettings) -> None:
    """Refuse to show more items than may be asked for."""
    if k > settings.max_k:
        raise Problematic(422, "invalid", f"k: {k} is more than {settings.max_k} (service.max_k); ask for fewer")


def check_task(served: Served, wanted: str) -> None:
    """Refuse what the served version was not made for."""
    if served.scorer.task == wanted:
        return
    ranks = wanted == "classify"
    verb, other = ("ranks items", "recommendations") if ranks else ("labels texts", "classifications")
    raise Problematic(
        409,
        "other_task",
        f"version {served.version} {verb} (task {served.scorer.task}); use /v1/{other}, or promote a version of task "
        f"{wanted}",
    )
