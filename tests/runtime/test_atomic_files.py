"""Whatever the package writes is there whole or not at all, with the permissions it had, however many write
at once.
"""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from scripts import run

from numgraph.runtime import atomic, folders
from numgraph.serialize import read_arrays, save_parameters

posix = pytest.mark.skipif(sys.platform == "win32", reason="permissions differ on Windows")
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0


def save(path, number=0.0):
    save_parameters(path, {"w": np.full(1 << 14, number)})


def is_whole(path):
    found = read_arrays(path)["w"]
    return found.shape == (1 << 14,) and len(np.unique(found)) == 1


@posix
@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640, 0o644, 0o664, 0o666, 0o700, 0o000])
def test_a_file_keeps_its_permissions(tmp_path, mode):
    path = tmp_path / "a.npz"
    save(path)
    path.chmod(mode)
    save(path, 1.0)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    path.chmod(0o600)
    assert is_whole(path)


@posix
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o077])
def test_a_new_file_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        save(tmp_path / "a.npz")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.npz").stat().st_mode) == 0o666 & ~umask


@posix
def test_no_moment_at_which_others_may_read_a_private_file(tmp_path):
    (tmp_path / "a").touch(0o600)
    seen = []
    atomic.write(
        tmp_path / "a",
        lambda file: seen.extend(stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()),
    )
    assert seen == [0o600, 0o600]


@pytest.mark.skipif(not ROOT, reason="only root can give a file away")
def test_owner_and_group_are_kept(tmp_path):
    path = tmp_path / "a.npz"
    save(path)
    os.chown(path, 65534, 65533)
    path.chmod(0o640)
    save(path, 1.0)
    state = path.stat()
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (65534, 65533, 0o640)


def test_a_group_that_cannot_be_kept_gets_nothing(tmp_path, monkeypatch):
    if not hasattr(os, "fchown"):
        pytest.skip("this system has no owners")
    (tmp_path / "a").touch()
    (tmp_path / "a").chmod(0o664)

    def refused(*_):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    atomic.write(tmp_path / "a", b"content")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o604


def chain(path):
    path.with_name("middle.npz").symlink_to(path.with_name("target.npz"))
    path.symlink_to("middle.npz")


LINKS = {
    "to a file": lambda path: (save(path.with_name("target.npz")), path.symlink_to("target.npz")),
    "to nothing yet": lambda path: path.symlink_to("target.npz"),
    "to a link": chain,
}


@posix
@pytest.mark.parametrize("kind", LINKS)
def test_a_link_stays_a_link(tmp_path, kind):
    path = tmp_path / "a.npz"
    LINKS[kind](path)
    before = os.readlink(path)
    save(path, 1.0)
    assert os.readlink(path) == before
    assert not (tmp_path / "target.npz").is_symlink()
    assert is_whole(tmp_path / "target.npz")


@posix
def test_another_name_of_the_file_keeps_the_old_content(tmp_path):
    save(tmp_path / "a.npz")
    os.link(tmp_path / "a.npz", tmp_path / "backup.npz")
    save(tmp_path / "a.npz", 1.0)
    assert read_arrays(tmp_path / "backup.npz")["w"][0] == 0
    assert read_arrays(tmp_path / "a.npz")["w"][0] == 1


def test_what_is_no_file_is_written_to(tmp_path):
    atomic.write(os.devnull, b"content")
    assert not Path(os.devnull).is_file()
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with subprocess.Popen(["cat", str(tmp_path / "pipe")], stdout=subprocess.PIPE) as reader:
            atomic.write(tmp_path / "pipe", b"content")
            assert reader.communicate()[0] == b"content"
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), MemoryError(), KeyboardInterrupt(), ValueError("bad")]
)
@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path, error, there):
    if there:
        (tmp_path / "a").write_bytes(b"before")

    def fail(file):
        file.write(b"half of ")
        raise error

    with pytest.raises(type(error)):
        atomic.write(tmp_path / "a", fail)
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == (
        [("a", b"before")] if there else []
    )


INTERRUPTED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from numgraph.serialize import read_arrays, save_parameters
class Stop(BaseException):
    pass
def stop(number, frame):
    raise Stop
signal.signal(signal.SIGTERM, stop)
path = Path(PLACE, NAME)
big = lambda number: {"w": np.full(1 << 12, number), "v": np.ones(3)}

def interrupted(after, number):
    '''A save with a signal after so many calls and returns in it.'''
    left = [after]
    def profile(frame, event, arg):
        left[0] -= 1
        if left[0] == 0:
            signal.raise_signal(signal.SIGTERM)
    sys.setprofile(profile)
    try:
        save_parameters(path, big(number))
    except Stop:
        return True
    finally:
        sys.setprofile(None)
    assert left[0] > 0, "the signal is lost"
    return False
"""


@posix
@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_a_signal_at_any_moment_of_a_save(tmp_path, kind):
    """It comes out as itself, and leaves one whole file, the old one or the new one."""
    if kind == "safetensors":
        pytest.importorskip("safetensors")
    out = run(
        """
        save_parameters(path, big(0.0))
        after, last = 1, 0.0
        while interrupted(after, float(after)):
            found = np.unique(read_arrays(path)["w"])
            assert found.size == 1 and found[0] in (last, after)
            assert os.listdir(PLACE) == [NAME], os.listdir(PLACE)
            after, last = after + 1 + after // 40, found[0]
        print(last > 0, after > 100)
        """,
        setup=f"PLACE, NAME = {str(tmp_path)!r}, 'a.{kind}'\n{INTERRUPTED}",
    )
    assert out == "True True\n"


@posix
def test_a_signal_while_a_pipe_waits_for_its_reader(tmp_path):
    os.mkfifo(tmp_path / "pipe.npz")
    out = run(
        """
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, 0.2)
        try:
            save_parameters(path, big(1.0))
        except Stop:
            print("stopped")
        """,
        setup=f"PLACE, NAME = {str(tmp_path)!r}, 'pipe.npz'\n{INTERRUPTED}",
    )
    assert out == "stopped\n"


@posix
def test_a_full_disk_names_the_file(tmp_path):
    out = run(
        """
        import resource
        save_parameters(path, big(0.0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        try:
            save_parameters(path, big(1.0))
        except OSError as error:
            print(error.filename == str(path), error.errno in (27, 28), repr(str(path)) in str(error))
        print(os.listdir(PLACE) == [NAME], np.unique(read_arrays(path)["w"]))
        """,
        setup=f"PLACE, NAME = {str(tmp_path)!r}, 'a.npz'\n{INTERRUPTED}",
    )
    assert out == "True True True\nTrue [0.]\n"


@pytest.mark.parametrize("name", ["a", "a" * 250, "é" * 120, " a ", "a\nb", "-a", ".a"])
def test_any_name(tmp_path, name):
    for content in (b"1", b"22"):
        atomic.write(tmp_path / name, content)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, content)]


def test_a_missing_folder_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape(repr(str(tmp_path / "nowhere" / "a")))):
        atomic.write(tmp_path / "nowhere" / "a", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match=re.escape(repr(str(tmp_path / "folder"))) + "$"):
        atomic.write(tmp_path / "folder", b"")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_threads_and_processes_save_to_one_path(tmp_path):
    """And what a process left behind that was ended in the middle is in nobody's way."""
    path = tmp_path / "a.npz"
    save(path)
    left = {f".a.npz.{os.getpid()}.tmp", ".numgraph-0123456789abcdef.tmp"}
    for name in left:
        (tmp_path / name).write_bytes(b"half")
    script = """
        import sys, threading
        import numpy as np
        from numgraph.serialize import read_arrays, save_parameters
        def work(number):
            for i in range(15):
                save_parameters(PATH, {"w": np.full(1 << 14, float(number))})
                found = read_arrays(PATH)["w"]
                assert found.shape == (1 << 14,) and len(np.unique(found)) == 1
        errors = []
        threading.excepthook = lambda caught: errors.append(caught)
        threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        assert not errors, errors
    """
    results = []
    starters = [
        threading.Thread(target=lambda: results.append(run(script, setup=f"PATH = {str(path)!r}\n")))
        for _ in range(2)
    ]
    for starter in starters:
        starter.start()
    for starter in starters:
        starter.join()
    assert results == ["", ""]
    assert is_whole(path)
    assert {entry.name for entry in tmp_path.iterdir()} == {path.name, *left}


def test_everything_is_written_by_the_one_writer():
    """No other module of the package opens a file for writing, or moves one, or a folder."""
    package = Path(atomic.__file__).parent
    opened = r"open\([^)]*[\"'][wxa]b?[\"']"
    writes = re.compile(
        opened
        + r"|os\.(replace|rename|open)\(|mkstemp|NamedTemporaryFile|\.write_(text|bytes)\(|savefig\(path"
    )
    exempt = ("/proc/self/clear_refs", "os.open(os.devnull", "return os.open(path, flags", "archive.open(")
    found = [
        f"{path.relative_to(package)}: {line.strip()}"
        for path in package.rglob("*.py")
        for line in path.read_text("utf-8").splitlines()
        if path not in (Path(atomic.__file__), Path(folders.__file__))
        and writes.search(line)
        and not any(known in line for known in exempt)
    ]
    assert found == []
