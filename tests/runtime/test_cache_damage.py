"""A cache that is damaged, foreign, full or gone costs time at most: what is kept counts only if it is whole
and nobody else's.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from pathlib import Path

import pytest
from scripts import run

from numgraph.runtime import caches
from numgraph.runtime.compiling import Kept

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="permissions differ on Windows")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0

# --- one file ---

CONTENT, PURPOSE = b"code" * 100, b"a kernel"


def with_bytes(change):
    return lambda path: path.write_bytes(change(path.read_bytes()))


def as_folder(path):
    path.unlink()
    path.mkdir()


def as_pipe(path):
    path.unlink()
    os.mkfifo(path)


def as_link(path):
    shutil.move(path, path.with_name("elsewhere"))
    path.symlink_to("nowhere")


DAMAGE = {
    "empty": with_bytes(lambda raw: b""),
    "a byte": with_bytes(lambda raw: raw[:1]),
    "half": with_bytes(lambda raw: raw[: len(raw) // 2]),
    "without its last byte": with_bytes(lambda raw: raw[:-1]),
    "without its first byte": with_bytes(lambda raw: raw[1:]),
    "longer": with_bytes(lambda raw: raw + b"\0"),
    "zeros": with_bytes(lambda raw: bytes(len(raw))),
    "noise": with_bytes(lambda raw: os.urandom(len(raw))),
    "a bit in front": with_bytes(lambda raw: bytes([raw[0] ^ 1]) + raw[1:]),
    "a bit in the middle": with_bytes(
        lambda raw: raw[: len(raw) // 3] + bytes([raw[len(raw) // 3] ^ 1]) + raw[len(raw) // 3 + 1 :]
    ),
    "a bit at the end": with_bytes(lambda raw: raw[:-1] + bytes([raw[-1] ^ 1])),
    "gone": Path.unlink,
    "a folder": as_folder,
    "a pipe": as_pipe,
    "a link to nothing": as_link,
    "writable by all": lambda path: path.chmod(0o666),
    "writable by the group": lambda path: path.chmod(0o620),
}
LASTS = ("a folder",)
"""What does not give way to a file: nothing is kept in its place, and nothing fails."""


@pytest.mark.parametrize("name", DAMAGE)
def test_only_what_was_kept_is_found(tmp_path, name):
    path = tmp_path / "kept"
    caches.keep(path, CONTENT, PURPOSE)
    assert caches.kept(path, PURPOSE) == CONTENT
    DAMAGE[name](path)
    with pytest.raises(OSError, match="kept"):
        caches.kept(path, PURPOSE)
    caches.keep(path, CONTENT, PURPOSE)
    if name in LASTS:
        with pytest.raises(OSError, match="kept"):
            caches.kept(path, PURPOSE)
    else:
        assert caches.kept(path, PURPOSE) == CONTENT
    assert not list(tmp_path.glob("*.tmp"))


def test_another_purpose_is_another_thing(tmp_path):
    """Two files may have changed places, and two processes may have given one name at once."""
    caches.keep(tmp_path / "kept", CONTENT, PURPOSE)
    for purpose in (b"", b"a kerne", b"a kernelc", b"another"):
        with pytest.raises(OSError, match="not what was kept"):
            caches.kept(tmp_path / "kept", purpose)


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
def test_a_file_of_another_user_is_nobodys(tmp_path):
    caches.keep(tmp_path / "kept", CONTENT, PURPOSE)
    os.chown(tmp_path / "kept", 65534, 65534)
    with pytest.raises(PermissionError, match="someone else"):
        caches.kept(tmp_path / "kept", PURPOSE)
    assert (
        caches.kept(tmp_path / "kept", PURPOSE, shared=True) == CONTENT
    )  # of an installation, whose code runs anyway


@pytest.mark.parametrize("umask", [0, 0o002, 0o077, 0o277])
def test_what_is_made_is_private(tmp_path, umask):
    before = os.umask(umask)
    try:
        assert caches.private(tmp_path / "a" / "b" / "c")
        caches.keep(tmp_path / "a" / "b" / "c" / "d" / "kept", CONTENT, PURPOSE)
        caches.show(tmp_path / "a" / "b" / "c" / "text.py", b"text")
    finally:
        os.umask(before)
    made = sorted((tmp_path / "a").rglob("*"))
    assert len(made) == 5
    for path in [tmp_path / "a", *made]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert caches.kept(tmp_path / "a" / "b" / "c" / "d" / "kept", PURPOSE) == CONTENT


# --- folders ---


def given_away(path):
    os.chown(path, 65534, 65534)


def linked(path):
    shutil.move(path, path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


FOREIGN = {
    "writable by all": (lambda path: path.chmod(0o777), r"others may write there \(mode 777\).*chmod go-w"),
    "writable by the group": (
        lambda path: path.chmod(0o770),
        r"others may write there \(mode 770\).*chmod go-w",
    ),
    "writable by others alone": (lambda path: path.chmod(0o702), "others may write there"),
    "writable by all, entries kept apart": (lambda path: path.chmod(0o1777), "others may write there"),
    "in a folder that all may write": (
        lambda path: path.parent.chmod(0o777),
        "others may replace it.*chmod o-w",
    ),
    "a link": (linked, "it is a link.*remove it"),
    "of another user": (given_away, "user 65534 owns it.*delete it"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_folder_that_others_may_change_is_not_used(tmp_path, name):
    if name == "of another user" and not ROOT:
        pytest.skip("only root can give a folder away")
    path = tmp_path / "root" / "kernels"
    path.mkdir(parents=True)
    change, message = FOREIGN[name]
    change(path)
    with pytest.warns(RuntimeWarning, match=message):
        assert not caches.private(path)
    assert not caches.private(path)  # says so once


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o750, 0o500, 0o711])
def test_a_folder_that_others_may_read_is_used(tmp_path, mode):
    (tmp_path / "kernels").mkdir()
    (tmp_path / "kernels").chmod(mode)
    assert caches.private(tmp_path / "kernels") == os.access(tmp_path / "kernels", os.W_OK)


def test_a_sticky_folder_above_is_as_good_as_any(tmp_path):
    tmp_path.chmod(0o1777)
    assert caches.private(tmp_path / "kernels")


# --- processes ---

WORK = """
import numpy as np, numgraph as ng
from numgraph.runtime import caches
rng = np.random.default_rng(0)
src, dst = rng.integers(0, 50, (2, 300))
x = rng.standard_normal((50, 4))
z = ng.update_all(ng.Graph(src, dst, 50), lambda u: np.exp(u.x) * 3, "sum", u={"x": x})
want = np.zeros((50, 4))
np.add.at(want, dst, np.exp(x[src]) * 3)
np.testing.assert_allclose(z, want, rtol=1e-12)
"""
COUNTING = """
from numba.core import event
compiled = event.RecordingListener()
event.register("numba:compile", compiled)
"""
COUNT = "print(sum(1 for _, found in compiled.buffer if found.is_start))"


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that a process has filled: its own kernels and the package's functions."""
    folder = tmp_path_factory.mktemp("filled")
    environment = {
        "NUMGRAPH_CACHE_DIR": str(folder),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTHONDONTWRITEBYTECODE": None,
    }
    assert int(run(WORK + COUNT, setup=COUNTING, **environment)) > 3
    assert run(WORK + COUNT, setup=COUNTING, **environment) == "0\n"
    return folder


def copied(filled, tmp_path):
    """The same cache for one test, and the environment that leads to it. Where Numba's folder is, is no part
    of what it keeps.
    """
    shutil.copytree(filled, tmp_path / "cache")
    (tmp_path / "cache").chmod(0o700)
    folder = tmp_path / "cache"
    return folder, {
        "NUMGRAPH_CACHE_DIR": str(folder),
        "NUMBA_CACHE_DIR": str(folder / "numba"),
        "PYTHONDONTWRITEBYTECODE": None,
    }


@pytest.mark.parametrize("shift", range(2))
def test_damaged_files_are_made_anew(filled, tmp_path, shift):
    """Every file of a cache is damaged, each kind of file in several ways. The next process compiles, the one
    after it does not.
    """
    folder, environment = copied(filled, tmp_path)
    ways = [way for name, way in DAMAGE.items() if name not in LASTS]
    suffixes = set()
    for number, path in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        ways[(number * 5 + shift * 3) % len(ways)](path)
        suffixes.add(path.suffix)
    assert suffixes == {".py", ".pyc", ".nbi", ".nbc"}
    assert int(run(WORK + COUNT, setup=COUNTING, **environment)) > 3
    assert run(WORK + COUNT, setup=COUNTING, **environment) == "0\n"


def test_files_that_changed_places(filled, tmp_path):
    """The code of one function under the name of another is a wrong result, or the end of the process."""
    folder, environment = copied(filled, tmp_path)
    for pattern in ("*.nbc", "*.nbi", "*.pyc"):
        paths = sorted(folder.rglob(pattern))
        contents = [path.read_bytes() for path in paths]
        for path, content in zip(paths, contents[1:] + contents[:1]):
            path.write_bytes(content)
    run(WORK, setup="", **environment)


def test_code_of_another_user_does_not_run(filled, tmp_path):
    """Code with a right seal, for seals are no secret, in a folder that others may write."""
    forge = """
        import os, pathlib, pickle
        from numgraph.runtime import caches
        from numgraph.runtime.compiling import Kept
        class Stranger:
            def __reduce__(self):
                return print, ("STRANGER",)
        kept = caches.kept
        def forged(path, purpose, shared=False):
            content = kept(path, purpose, shared)
            if path.suffix == ".nbc":
                caches.keep(path, pickle.dumps(Stranger()), purpose, shared)
            return content
        caches.kept = forged
    """
    folder, environment = copied(filled, tmp_path)
    run(WORK, setup=forge, **environment)
    assert "STRANGER" in run(WORK, setup="", **environment)  # the forgery is one
    run(WORK, setup=forge, **environment)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o777)
    assert run(WORK, setup="", **environment, PYTHONWARNINGS="ignore") == ""


WITHOUT_ROOM = {
    "no room for a byte": "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))",
    "room for small files": "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))",
    "no more open files": (
        "resource.setrlimit(resource.RLIMIT_NOFILE, (opened := len(os.listdir('/proc/self/fd')) - 1, opened))"
    ),
    "the folder goes away": "shutil.rmtree(caches.cache_root())",
    "the folder is a file now": "shutil.rmtree(caches.cache_root()); caches.cache_root().touch()",
    "nothing may be written": "os.chmod(caches.cache_root(), 0o500); os.chmod(caches.folder(), 0o500)",
}


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts its open files in /proc")
@pytest.mark.parametrize("name", WITHOUT_ROOM)
def test_no_room(filled, tmp_path, name):
    folder, environment = copied(filled, tmp_path)
    before = {path for path in folder.rglob("*") if path.is_file()}
    more = """
        import os, resource, shutil
        ng.update_all(ng.Graph(src, dst, 50), lambda u: u.x, "max", u={"x": x})
        %s
        g = ng.Graph(dst, src, 50)
        for f in (np.sin, np.cos):
            z = ng.update_all(g, lambda u: f(u.x), "max", u={"x": x})
            for node in (0, 49):
                np.testing.assert_allclose(z[node], f(x[dst[src == node]]).max(0), rtol=1e-12)
    """
    lines = [line[8:] for line in more.splitlines()]
    run(WORK + "\n".join(lines) % WITHOUT_ROOM[name], setup="", **environment)
    assert not list(folder.rglob("*.tmp"))
    if "room for" in name:
        assert {path for path in before if path.exists()} == before


def test_functions_of_one_text_and_other_options_are_kept_apart():
    """A loop over all threads in the place of its serial twin ends the process where two threads run it at
    once.
    """

    def twice(x):
        return 2 * x

    import numba

    context = numba.njit(twice).targetctx
    keys = {
        Kept(twice, options)._key("sig", context)
        for options in (
            {},
            {"parallel": True},
            {"nogil": True},
            {"error_model": "numpy"},
            {"parallel": True, "error_model": "numpy"},
        )
    }
    assert len(keys) == 5
