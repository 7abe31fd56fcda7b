"""What a server answers, from inside its process."""

import asyncio
import re
import shutil

import cv2
import numpy as np
import pytest
from serving_support import CLASSES, metrics_of, photo, served

from fastcls import Classifier
from fastcls.serving.answers import Answers
from fastcls.specs.serving import LimitSpec

STATES = ("/health", "/ready", "/metadata", "/metrics")
FORM = "multipart/form-data; boundary=x"


def test_predict__says_what_the_classifier_says(classifier):
    files = {
        name: photo(name, suffix) for name, suffix in zip(CLASSES, (".png", ".jpg", ".webp"), strict=True)
    }
    expected = Classifier.load(classifier).predict(list(files.values()))

    async def ask():
        async with served(classifier) as client:
            many = [("images", (f"{name}.x", data)) for name, data in files.items()]
            form = await client.post("/predict?top=2", files=many)
            alone = [(await client.post("/predict", content=data)).json() for data in files.values()]
            return form, alone

    form, alone = asyncio.run(ask())
    told = form.json()
    assert Answers.model_validate(told).model == Classifier.load(classifier).digest
    assert [image["name"] for image in told["images"]] == [f"{name}.x" for name in CLASSES]
    for name, image, single, one in zip(CLASSES, told["images"], alone, expected, strict=True):
        assert [each["class"] for each in image["predictions"]] == [name] == [one.class_name]
        scores = {each["class"]: each["confidence"] for each in single["images"][0]["scores"]}
        assert scores == pytest.approx(dict(one.scores()), abs=1e-5)
        assert [each["class"] for each in image["scores"]] == [named for named, _ in one.scores(2)]
        assert "unfamiliar" not in image  # it has no limits of what it knows


def test_predict__of_several_labels_all_that_reach_their_thresholds(tagger):
    async def ask():
        async with served(tagger) as client:
            return (await client.post("/predict", content=photo("green"))).json()

    (image,) = asyncio.run(ask())["images"]
    assert {each["class"] for each in image["predictions"]} == {*CLASSES}
    assert image["predictions"][0]["class"] == "green"


def test_predict__marks_images_unlike_the_training_images(knowing):
    gray = cv2.imencode(".png", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()

    async def ask():
        async with served(knowing) as client:
            answers = [await client.post("/predict", content=data) for data in (photo("red"), gray)]
            metadata = (await client.get("/metadata")).json()
            return [answer.json()["images"][0] for answer in answers], metadata

    images, metadata = asyncio.run(ask())
    expected = Classifier.load(knowing).predict([photo("red"), gray])
    assert metadata["unfamiliar"]
    assert [image["unfamiliar"] for image in images] == [one.is_unfamiliar for one in expected]
    assert [image["unfamiliarity"] for image in images] == pytest.approx(
        [one.unfamiliarity for one in expected], abs=1e-3
    )


def test_predict__an_unreadable_image_leaves_the_others(classifier):
    files = [("images", ("a.png", photo("red"))), ("images", ("../../etc/passwd", b"http://127.0.0.1/a.png"))]

    async def ask():
        async with served(classifier) as client:
            both = await client.post("/predict", files=files)
            return both, await client.post("/predict", files=files[1:])

    both, none = asyncio.run(ask())
    assert both.status_code == 200
    assert [bool(image.get("error")) for image in both.json()["images"]] == [False, True]
    assert none.status_code == 422 and "not an image" in none.json()["detail"]


def part(data, disposition='form-data; name="images"; filename="a.png"'):
    return b"--x\r\nContent-Disposition: " + disposition.encode() + b"\r\n\r\n" + data + b"\r\n"


RED = photo("red")
FUZZED = {
    "nothing": ("image/png", b"", 400),
    "cut off": ("image/png", RED[:-20], 422),
    "another type": ("application/json", b'{"url": "http://127.0.0.1/a.png"}', 422),
    "noise": ("image/jpeg", np.random.default_rng(0).bytes(5000), 422),
    "too many bytes": ("image/png", bytes(2_100_000), 413),
    "too many pixels": ("image/png", photo("red", shape=(400, 500)), 422),
    "form without an end": (FORM, part(RED)[:60], 400),
    "form without a boundary": ("multipart/form-data", part(RED), 400),
    "form of another boundary": (FORM.replace("x", "y"), part(RED), 400),
    "form without files": (FORM, part(b"1", 'form-data; name="a"') + b"--x--\r\n", 400),
    "part without a name": (FORM, part(RED, "form-data") + b"--x--\r\n", 400),
    "thousands of files": (FORM, 5000 * part(b"1") + b"--x--\r\n", 413),
    "thousands of fields": (FORM, 5000 * part(b"1", 'form-data; name="a"') + b"--x--\r\n", 413),
    "long field": (FORM, part(bytes(10_000), 'form-data; name="a"') + b"--x--\r\n", 413),
    "long header": (FORM, part(RED, "a" * 500_000) + b"--x--\r\n", 400),
}


@pytest.mark.parametrize("path", ["/predict", "/explain"])
def test_fuzzed_uploads__are_refused_and_the_server_lives_and_says_nothing(classifier, path, caplog):
    async def ask():
        async with served(classifier, max_upload=2, max_pixels=100_000) as client:
            refused = {}
            for name, (kind, body, _) in FUZZED.items():
                answer = await client.post(path, content=body, headers={"Content-Type": kind})
                refused[name] = answer.status_code
                assert answer.json()["detail"]
            assert client.service.uploads._held == 0
            assert (await client.post(path, content=RED)).status_code == 200
            return refused, (await client.get("/metrics")).text

    refused, metrics = asyncio.run(ask())
    assert refused == {name: status for name, (_, _, status) in FUZZED.items()}
    assert metrics_of(metrics)["fastcls_held_images"] == 0
    assert [record.getMessage() for record in caplog.records] == []


def test_busy__further_images_are_sent_away_until_there_is_room(classifier, monkeypatch):
    async def ask():
        async with served(classifier, queue=4, max_images=4) as client:
            predictor, gate = client.service.predictor, asyncio.Event()
            asked = predictor._predict

            async def held(image):
                await gate.wait()
                return await asked(image)

            monkeypatch.setattr(predictor, "_predict", held)
            first = asyncio.create_task(client.post("/predict", files=3 * [("images", ("a", RED))]))
            while predictor.held < 3:
                await asyncio.sleep(0.01)
            sent_away = await client.post("/predict", files=2 * [("images", ("a", RED))])
            gate.set()
            return sent_away, (await first), await client.post("/predict", content=RED)

    sent_away, first, later = asyncio.run(ask())
    assert sent_away.status_code == 503 and int(sent_away.headers["Retry-After"]) >= 1
    assert (first.status_code, later.status_code) == (200, 200)


def test_bodies__of_all_requests_are_bounded_together(classifier):
    async def endless(gate):
        yield bytes(900_000)
        await gate.wait()

    async def ask():
        async with served(classifier, max_upload=1) as client:
            gate = asyncio.Event()
            slow = [asyncio.create_task(client.post("/predict", content=endless(gate))) for _ in range(8)]
            while client.service.uploads._held < 7_200_000:
                await asyncio.sleep(0.01)
            sent_away = await client.post("/predict", content=bytes(900_000))
            gate.set()
            statuses = {answer.status_code for answer in await asyncio.gather(*slow)}
            return sent_away.status_code, statuses, (await client.post("/predict", content=RED)).status_code

    assert asyncio.run(ask()) == (503, {422}, 200)


def test_time__is_bounded_while_a_request_arrives_and_while_it_waits(classifier, monkeypatch):
    async def slow():
        for _ in range(100):
            yield b"a"
            await asyncio.sleep(0.05)

    async def ask():
        async with served(classifier, timeout=0.3) as client:
            arriving = await client.post("/predict", content=slow())
            predictor = client.service.predictor
            monkeypatch.setattr(predictor, "_predict", lambda image: asyncio.sleep(60))
            waiting = await client.post("/predict", content=RED)
            return arriving, waiting, predictor.held

    arriving, waiting, held = asyncio.run(ask())
    assert arriving.status_code == 408
    assert waiting.status_code == 503 and "Retry-After" in waiting.headers and held == 0


@pytest.mark.parametrize(
    ("host", "known"),
    {
        "127.0.0.1:8000": True,
        "LOCALHOST": True,
        "[::1]:9": True,
        "photos.example.org": True,
        "photos.example.org.evil.example": False,
        "evil.example": False,
        "10.0.0.7": False,
        "": False,
        "[": False,
        "127.0.0.1@evil.example": False,
    }.items(),
)
def test_hosts__only_known_ones_are_answered(classifier, host, known):
    async def ask():
        async with served(classifier, ready=False, allow_host="Photos.example.org") as client:
            of_host = await client.get("/health", headers={"Host": host})
            of_page = await client.get("/health", headers={"Origin": f"https://{host}"})
            return of_host.status_code, of_page.status_code

    assert asyncio.run(ask()) == ((200, 200) if known else (421, 403))


def test_hosts__a_server_of_the_network_is_called_by_its_address(classifier):
    async def ask():
        async with served(classifier, ready=False, host="0.0.0.0") as client:
            hosts = "10.0.0.7:8000", "[fe80::1]", "evil.example", "0.0.0.0.evil.example"
            return [(await client.get("/health", headers={"Host": host})).status_code for host in hosts]

    assert asyncio.run(ask()) == [200, 200, 421, 421]


def test_states__before_and_after_the_classifier_is_loaded(classifier, monkeypatch):
    def fail(self):
        raise RuntimeError("no such model")

    async def ask():
        async with served(classifier) as client:
            after = [(await client.get(path)).status_code for path in ("/health", "/ready")]
        monkeypatch.setattr(Classifier, "keep", fail)
        async with served(classifier, ready=False) as client:
            before = [(await client.get(path)).status_code for path in ("/health", "/ready")]
            return after, before, await client.post("/predict", content=RED)

    after, before, early = asyncio.run(ask())
    assert (after, before) == ([200, 200], [200, 503])
    assert early.status_code == 503 and "Retry-After" in early.headers


@pytest.mark.parametrize("path", ["/", "/static/page.css", *STATES, "/openapi.json", "/predict", "/nowhere"])
def test_head__is_answered_as_get_is_without_the_body(classifier, path):
    async def ask():
        async with served(classifier) as client:
            return [await client.request(method, path) for method in ("HEAD", "GET", "PUT")]

    head, get, put = asyncio.run(ask())
    assert head.status_code == get.status_code == {"/predict": 405, "/nowhere": 404}.get(path, 200)
    assert not head.content and get.content
    assert set(head.headers) == set(get.headers)
    assert head.headers["content-type"] == get.headers["content-type"]
    allowed = {"/predict": {"POST"}, "/nowhere": {""}}.get(path, {"GET", "HEAD"})
    assert set(put.headers.get("allow", "").split(", ")) == allowed


def test_metrics__count_what_happened(classifier):
    async def ask():
        async with served(classifier) as client:
            await client.post("/predict", files=3 * [("images", ("a", RED))])
            await client.post("/predict", content=b"no image")
            await client.get("/no/such/path")
            return await client.get("/metrics")

    answer = asyncio.run(ask())
    line = re.compile(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"\\]*",?)+\})? \d[\d.e+-]*')
    assert all(line.fullmatch(each) for each in answer.text.splitlines())
    found = metrics_of(answer.text)
    assert found["fastcls_images_total"] == 3 and found["fastcls_unreadable_images_total"] == 1
    assert found['fastcls_requests_total{path="/predict",status="200"}'] == 1
    assert found['fastcls_requests_total{path="/predict",status="422"}'] == 1
    assert found['fastcls_requests_total{path="other",status="404"}'] == 1
    assert found['fastcls_request_seconds_bucket{le="+Inf"}'] == found["fastcls_request_seconds_count"] == 2


def test_page__and_its_files_need_nothing_from_elsewhere(classifier):
    async def ask():
        async with served(classifier, ready=False) as client:
            page = await client.get("/")
            names = re.findall(r'(?:href|src)="(static/[^"]+)"', page.text)
            files = [await client.get(f"/{name}") for name in names]
            outside = [
                await client.get(path) for path in ("/static/../answers.py", "/static/%2e%2e/answers.py")
            ]
            return page, files, outside, await client.get("/openapi.json")

    page, files, outside, schema = asyncio.run(ask())
    assert len(files) == 4 and {file.status_code for file in (page, *files)} == {200}
    policy = page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    for file in (page, *files):
        assert not re.search(r"https?://|@import|style=\"", file.text)
    assert {answer.status_code for answer in outside} == {404}
    assert {"/predict", "/explain", "/health", "/ready", "/metadata", "/metrics"} == {*schema.json()["paths"]}


def test_explain__shows_the_most_probable_classes_on_the_image(classifier):
    async def ask():
        async with served(classifier) as client:
            one = await client.post("/explain", content=photo("blue"))
            return one, await client.post("/explain", files=2 * [("images", ("a", RED))])

    one, two = asyncio.run(ask())
    explained = one.json()["explained"]
    assert explained[0]["class"] == "blue" and {each["class"] for each in explained} == {*CLASSES}
    assert all(each["picture"].startswith("data:image/jpeg;base64,") for each in explained)
    assert two.status_code == 400


def test_explain__of_a_classifier_without_its_keras_model_is_refused(
    classifier, tagger, tmp_path, monkeypatch
):
    copy = shutil.copy(classifier, tmp_path / "classifier.keras")

    async def ask():
        async with served(copy) as client:
            shutil.copy(tagger, copy)
            replaced = await client.post("/explain", content=RED)
            copy.unlink()
            gone = await client.post("/explain", content=RED)
            assert (await client.post("/predict", content=RED)).status_code == 200
            monkeypatch.setattr(Classifier, "is_export", True)
            return replaced, gone, await client.post("/explain", content=RED), await client.get("/metadata")

    *answers, metadata = asyncio.run(ask())
    assert [answer.status_code for answer in answers] == [409, 409, 409]
    assert "changed" in answers[0].text and "export" in answers[2].text
    assert not any(str(tmp_path) in answer.text for answer in (*answers, metadata))
    assert not metadata.json()["explains"]


def test_limits__a_request_that_never_fits_is_refused_at_the_start():
    with pytest.raises(ValueError, match="would never fit into --queue 4"):
        LimitSpec(max_images=5, queue=4)
