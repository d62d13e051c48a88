"""Finds the Planetoid files: in a folder of the user's, in the cache, or by download, checked by hash."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from numgraph.errors import bad_value
from numgraph.runtime.caches import cache_root

PARTS = ("x", "y", "tx", "ty", "allx", "ally", "graph", "test.index")

# The authors' repository, at its last commit.
_SOURCE = "https://github.com/kimiyoung/planetoid/raw/af6abf468a772cc055bec88c52e4d6f51b7c37e3/data/"
_BY_HAND = (
    f"copy them from {_SOURCE} to DIR/planetoid and give DIR as data_dir (on the command line --data-dir) or "
    "NUMGRAPH_DATA_DIR"
)

# SHA-256 of the files at that commit, in the order of PARTS.
SHA256: dict[str, tuple[str, ...]] = {
    "cora": (
        "23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        "b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    ),
    "citeseer": (
        "d20de19150741e555de0ed037195630fc194114ebc7fd72ced62810148aa22f6",
        "8ba87e515d8e3ee3cf52f6d2c5b86aa73f11ecad825a808455209ec26cd54924",
        "539a8906a2da97628d212f2fdd668c109a8b3f0d36574b59e5d3fd5b5303da21",
        "55e5bd1ba1e733a04598753ad1a8d57957f4b8f89e74519f41f4f4938767e4ce",
        "2ac30345d95c9ec933a817ee0bdd6a5f077f8c184a20e696910192d534414668",
        "f704b2d986dde6c2669934de1f3ae5696a6cf9455c0f6b2646a2d135ea0a1c95",
        "d79a4ef9d3e7169aee8946145f6b7306e35bc79bffad26346cfb94e10e9912a7",
        "2af990671580b6b2df5d158d1038f8292e30c9cd821b5453f399659b25b723d4",
    ),
    "pubmed": (
        "fbe9cb5c47200d1b7769a26e579be3b7130b556831f9d850e77c4c74f2599b33",
        "e6c807633307a07ed659249006536a147c7999c797f11a2560752990181b41b3",
        "4eb5f5d0f30f26497eb0ac6ac9719d09c67e284f1ed0385c93f3ef27a671da3d",
        "ee2e0d4819d9fbcc403689c3bf2e49face401b605932f093bc58ab6461130fdd",
        "508e538e2abdccdd54c4d3e9f49d638b4af7107d85845f66ddea5a5152658b7e",
        "0c37bbe3b5014ec365e9d393cf4791925e5ed94fb194305d74f064a8d7b50f0e",
        "5b89f0036ca22909471f1e6558eb42fa06e0c730a577bde5b058b40638f81dc9",
        "b101d421688bbaecbd82e8a18f1e282378d6830f3a37666f28ebc47f844341b5",
    ),
}


def file_names(name: str) -> list[str]:
    return [f"ind.{name}.{part}" for part in PARTS]


def download_folder() -> Path:
    """Where downloads are kept."""
    return cache_root() / "planetoid"


def find_files(name: str, data_dir: str | os.PathLike[str] | None = None) -> dict[str, Path]:
    """The eight files by part.

    With ``data_dir`` they must be in data_dir/planetoid. Without it NUMGRAPH_DATA_DIR/planetoid is looked at,
    then the download folder, and what is in neither is downloaded with pooch and checked against SHA256.

    Raises
    ------
    FileNotFoundError
        Names the missing files, the folder, and how to provide them.
    """
    names = file_names(name)
    given = data_dir if data_dir is not None else os.environ.get("NUMGRAPH_DATA_DIR") or None
    if given is not None:
        folder = Path(given).expanduser() / "planetoid"
        absent = [file for file in names if not (folder / file).is_file()]
        if not absent:
            return {part: folder / file for part, file in zip(PARTS, names)}
        if data_dir is not None:
            raise _not_found(
                name, folder, absent, "put them there, or leave data_dir (--data-dir) out to download them"
            )
    return _download(name, names, looked_at="" if given is None else f"{folder} (NUMGRAPH_DATA_DIR) nor in ")


def _download(name: str, names: Sequence[str], looked_at: str) -> dict[str, Path]:
    folder = download_folder()
    absent = [file for file in names if not (folder / file).is_file()]
    registry = dict(zip(names, (f"sha256:{digest}" for digest in SHA256[name])))
    try:
        import pooch
    except ModuleNotFoundError:
        raise _not_found(
            name,
            f"{looked_at}{folder}",
            absent or names,
            f"pip install 'numgraph[data]' to download them, or {_BY_HAND}",
        ) from None
    store = pooch.create(path=folder, base_url=_SOURCE, registry=registry, retry_if_failed=2)
    downloader = pooch.HTTPDownloader(timeout=30)
    paths = {}
    for part, file in zip(PARTS, names):
        try:
            paths[part] = Path(store.fetch(file, downloader=downloader))
        except ValueError as error:  # pooch's word for a hash that does not match
            problem = f"{_SOURCE}{file} is not the file this version knows: {error}"
            raise bad_value(
                f"load {name}", problem, "do not use it; pass data_dir with files that you trust"
            ) from error
        except (
            OSError
        ) as error:  # no network (requests' errors are OSErrors), or a folder that cannot be written
            status = getattr(getattr(error, "response", None), "status_code", None)
            why = error.strerror or (type(error).__name__ if status is None else f"HTTP status {status}")
            reason = f"the download failed ({why})"
            raise _not_found(
                name, f"{looked_at}{folder}", absent or [file], f"{reason}; {_BY_HAND}"
            ) from error
    return paths


def _not_found(name: str, folder: Path | str, absent: Sequence[str], fix: str) -> FileNotFoundError:
    return FileNotFoundError(f"load {name}: {', '.join(absent)} not in {folder}; {fix}")
