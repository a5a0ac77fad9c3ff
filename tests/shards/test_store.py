import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest
from made_folders import histories, make_shards

from shards.files import store
from shards.stream.stream import Stream
from shards.tables import load_holdout, load_items


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store") / "shards"
    manifest = make_shards(folder, histories(1, 40))
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "tokenizer.json").write_text("{}")
    (folder / "tokenizer" / "spiece.model").write_bytes(b"\x00\xff")
    return folder, manifest


@pytest.fixture(scope="module")
def web(local):
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(local[0].parent))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/shards"
        server.shutdown()


@pytest.fixture(scope="module")
def memory(local):
    system = fsspec.filesystem("memory")
    system.put(str(local[0]), "/store-test/shards", recursive=True)
    yield "memory://store-test/shards"
    system.rm("/store-test", recursive=True)


def order(folder, manifest, **options):
    stream = Stream(folder, manifest, 0, **options)
    return [
        (sample.key, sample.prefix_end, sample.history.tolist(), sample.target)
        for _, entries in stream.batches(stream.start(), 16)
        for sample in entries
        if sample is not None
    ]


@pytest.mark.parametrize("kind", ["memory", "web"])
def test_a_url_gives_what_the_folder_gives(kind, local, request):
    folder, manifest = local
    url = request.getfixturevalue(kind)
    file = manifest.members[0].tars[0].file
    assert store.read_bytes(url, file) == store.read_bytes(folder, file) == (folder / file).read_bytes()
    assert store.sha256(url, file) == store.sha256(str(folder), file) == manifest.members[0].tars[0].sha256
    assert order(url, manifest) == order(folder, manifest) == order(str(folder), manifest)
    assert load_items(url, manifest).items == load_items(folder, manifest).items
    there, here = load_holdout(url, "Garden"), load_holdout(str(folder), "Garden")
    assert [rows.tolist() for rows in there.histories] == [rows.tolist() for rows in here.histories]
    with pytest.raises(ValueError, match=f"{url}/Garden/none.tar is missing; build the shards again"):
        store.read_bytes(url, "Garden/none.tar")


def test_workers_read_urls(local, web):
    assert order(web, local[1], workers=1) == order(*local)


@pytest.mark.parametrize("kind", ["memory", "web"])
def test_a_folder_for_code_that_wants_paths(kind, local, request):
    copy = store.local_copy(request.getfixturevalue(kind), "tokenizer")
    original = store.local_copy(local[0], "tokenizer")
    assert original == local[0] / "tokenizer"
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {
        path.name: path.read_bytes() for path in original.iterdir()
    }
    assert store.local_copy(request.getfixturevalue(kind), "tokenizer") == copy


@pytest.mark.parametrize(
    "file",
    [
        "../secret",
        "Garden/../../secret",
        "/etc/hostname",
        "Garden\\..\\secret",
        "C:/secret",
        "Garden//x",
        "./x",
        "",
        "x\0",
    ],
)
@pytest.mark.parametrize("kind", ["local", "memory"])
def test_a_name_that_leaves_the_folder_is_refused(file, kind, local, request):
    folder = local[0] if kind == "local" else request.getfixturevalue(kind)
    (local[0].parent / "secret").write_text("secret")
    for read in (store.read_bytes, store.sha256, store.local_copy):
        with pytest.raises(ValueError, match="leads out of the folder") as error:
            read(folder, file)
        assert repr(file) in str(error.value)


def test_links_may_not_leave_the_folder_but_may_stay_inside(tmp_path: Path):
    folder = tmp_path / "shards"
    folder.mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    (folder / "inside").write_bytes(b"fine")
    (folder / "away").symlink_to(tmp_path / "outside")
    (folder / "here").symlink_to(folder / "inside")
    (tmp_path / "alias").symlink_to(folder)
    assert store.read_bytes(tmp_path / "alias", "here") == b"fine"
    with pytest.raises(ValueError, match="shards/away is a link out of the folder"):
        store.read_bytes(folder, "away")


def test_what_cannot_be_read_is_named(tmp_path: Path, local):
    with pytest.raises(ValueError, match=f"{tmp_path}/x.tar is missing"):
        store.read_bytes(tmp_path, "x.tar")
    with pytest.raises(ValueError, match=f"{tmp_path}/x.tar is missing"):
        store.sha256(tmp_path, "x.tar")
    with pytest.raises(ValueError, match="nosuch://a/b cannot be opened"):
        store.read_bytes("nosuch://a/b", "x.tar")
    with pytest.raises(ValueError, match=r"http://127.0.0.1:9/x.tar cannot be read \(.+\); see to it"):
        store.read_bytes("http://127.0.0.1:9", "x.tar")
    with pytest.raises(ValueError, match="memory://empty/none cannot be read"):
        store.local_copy("memory://empty", "none")
