"""What a process of several serves, and at which addresses servers listen."""

import json
import socket
from dataclasses import asdict

import pytest

import fastcls
from fastcls.serving import server
from fastcls.specs.serving import AddressSpec, BatchSpec, LimitSpec, ServeSpec


def test_worker__serves_what_it_was_asked_to(classifier, monkeypatch, tmp_path):
    asked = ServeSpec(
        AddressSpec(allow_host="a.example, B.example"), BatchSpec(batch_size=3), LimitSpec(queue=40)
    )
    told = {"path": str(classifier), "spec": asdict(asked), "counters": str(tmp_path)}
    monkeypatch.setenv("FASTCLS_SERVE", json.dumps(told))
    monkeypatch.setattr(server.atexit, "register", lambda *_: None)
    service = server.worker_app().state.service
    assert service.spec == asked and service.predictor.classifier.source == classifier


def test_workers__are_started_of_a_classifier_that_was_tried_out(classifier, monkeypatch):
    started, told = {}, []
    monkeypatch.setattr(server.uvicorn, "run", lambda app, **options: started.update(options, app=app))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    spec = {"address": {"port": port, "workers": 2}}
    fastcls.serve(classifier, spec, on_start=lambda known, address: told.append(address))
    assert told == [f"http://127.0.0.1:{port}"]
    assert (started["workers"], started["port"]) == (2, port)
    module, _, name = started["app"].partition(":")
    assert (module, name) == (server.__name__, server.worker_app.__name__)


@pytest.mark.parametrize(("host", "shown"), [("localhost", "localhost"), ("::1", "[::1]")])
def test_address__of_either_family(host, shown):
    spec = AddressSpec(host, port=0)
    try:
        bound = server._bound(spec)
    except ValueError as error:
        pytest.skip(str(error))
    with bound:
        port = bound.getsockname()[1]
        assert server._address(spec, port) == f"http://{shown}:{port}"
        socket.create_connection(("127.0.0.1" if host == "localhost" else host, port)).close()


@pytest.mark.parametrize(
    "spec", [{"address": {"allow_host": "*"}}, {"limits": {"timeout": 0}}, {"adress": {}}, {"address": 3}]
)
def test_spec__what_it_does_not_know_is_refused(classifier, spec):
    with pytest.raises(ValueError, match=r"adress|allow_host|timeout|address"):
        fastcls.serve(classifier, spec)
