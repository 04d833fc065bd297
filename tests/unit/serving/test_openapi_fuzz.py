"""Whatever the OpenAPI document allows, and what lies just outside of it, is answered without a fault."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from serving_fakes import NOW, PARAMS, FakeDecisions, FakeJournal, FakeRegistry, FakeScorer, loader

from penstock.serving.app import create_app
from penstock.serving.runtime import Runtime
from penstock.settings import load_settings

LOCAL = {"Host": "localhost"}


@pytest.fixture(scope="module", params=["rank", "classify"])
def app(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    registry = FakeRegistry(Path(tmp_path_factory.mktemp("registry")))
    load = loader({"first": FakeScorer("first", request.param)})
    runtime = Runtime(registry, FakeJournal(), load, 60.0, None, FakeDecisions(registry), lambda: NOW)
    registry.serve("1", "first")
    assert runtime.poll()
    return create_app(runtime, load_settings(PARAMS, {}))


def test_no_request_that_the_document_describes_is_a_fault(app: Any) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", app, headers=LOCAL)
    answered: Counter[int] = Counter()
    tried = []
    for found in schema.get_all_operations():
        operation = found.ok()
        if not (list(operation.body) or list(operation.query) or list(operation.path_parameters)):
            continue  # nothing to vary
        tried.append(operation.label)

        @hypothesis_settings(
            max_examples=10, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
        )
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            answer = case.call(headers=LOCAL)
            answered[answer.status_code] += 1
            well = answer.status_code < 500 or answer.json()["error"]["code"] == "not_ready"  # no state database here
            assert well, f"{case.as_curl_command()}: {answer.status_code} {answer.text}"

        check()
    assert {"POST /v1/recommendations", "POST /v1/events", "POST /v1/classifications"} <= set(tried)
    assert answered[200] + answered[202] > 5, "and some of it is answered well"
