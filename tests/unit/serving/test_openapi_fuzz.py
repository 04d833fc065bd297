"""Whatever the OpenAPI document allows, and what lies just outside of it, is answered without a fault."""

from collections import Counter
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from serving_fakes import NOW
from whole_bench import Whole

from penstock.registry.promotion import approve, promote

LOCAL = {"Host": "localhost"}


# Threads of other tests in this process (Prefect's) may draw a random number while Hypothesis draws an example.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
def test_no_request_that_the_document_describes_is_a_fault(whole: Whole) -> None:
    number = whole.register("one")
    approve(whole.registry, whole.state, number, "Ada", "the first one", NOW)
    promote(whole.registry, whole.state, number, "Ada", "the first one", None, NOW)
    assert whole.runtime.poll()
    schema = schemathesis.openapi.from_asgi("/openapi.json", whole.client.app, headers=LOCAL)
    answered: Counter[int] = Counter()
    tried = []
    for found in schema.get_all_operations():
        operation = found.ok()
        varied = bool(list(operation.body) or list(operation.query) or list(operation.path_parameters))
        tried.append(operation.label)

        @hypothesis_settings(
            max_examples=4 if varied else 1, deadline=None, database=None, derandomize=True,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            answer = case.call(headers=LOCAL)
            answered[answer.status_code] += 1
            assert answer.status_code < 500, f"{case.as_curl_command()}: {answer.status_code} {answer.text}"

        check()
    assert {"POST /v1/recommendations", "POST /v1/events", "GET /v1/status"} <= set(tried)
    assert answered[200] + answered[202] > 10, "and some of it is answered well"
