"""The hub that encoders come from, asked on request only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_plimseg.errors import ModelError
from napari_plimseg.models.downloads import CHUNK, RemoteFile

if TYPE_CHECKING:
    from collections.abc import Iterator

_SHA256_DIGITS, _SHA1_DIGITS = 64, 40


class HubRemote:
    """Fetches from the Hugging Face hub, with the user's token where there is one.

    `HF_HUB_OFFLINE`, `HF_ENDPOINT` and proxies are respected: huggingface_hub does the talking.
    """

    def find(self, repository: str, name: str) -> RemoteFile | None:
        """Return size, checksum and address of a file; None when the repository has none."""
        import huggingface_hub
        from huggingface_hub.errors import EntryNotFoundError, HTTPError  # type: ignore[attr-defined]

        url = huggingface_hub.hf_hub_url(repository, name)
        try:
            facts = huggingface_hub.get_hf_file_metadata(url)
        except EntryNotFoundError:
            return None
        except (HTTPError, OSError, ValueError) as error:
            raise _refusal(repository, error) from error
        if facts.size is None:
            raise ModelError(f"the hub does not say how large '{name}' of {repository} is")
        if facts.commit_hash:
            # the very version that was looked at, whatever its authors upload meanwhile
            url = huggingface_hub.hf_hub_url(repository, name, revision=facts.commit_hash)
        return RemoteFile(repository, name, url, facts.size, _digest(facts.etag or ""))

    def read(self, file: RemoteFile, start: int) -> Iterator[bytes]:
        """Yield the content from byte `start` on."""
        from huggingface_hub import get_session
        from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]
        from huggingface_hub.utils._headers import build_hf_headers
        from huggingface_hub.utils._http import hf_raise_for_status

        headers = {**build_hf_headers(), "Accept-Encoding": "identity"}
        if start:
            headers["Range"] = f"bytes={start}-"
        try:
            session = get_session()
            with session.stream("GET", file.url, headers=headers, follow_redirects=True) as answer:
                hf_raise_for_status(answer)
                # a host that knows no ranges sends everything again
                skip = start if start and answer.status_code != 206 else 0
                for chunk in answer.iter_bytes(CHUNK):
                    if skip >= len(chunk):
                        skip -= len(chunk)
                        continue
                    yield chunk[skip:]
                    skip = 0
        except (HTTPError, OSError) as error:
            raise _refusal(file.repository, error) from error


def _digest(etag: str) -> str:
    etag = etag.strip('"')
    if len(etag) == _SHA256_DIGITS:
        return f"sha256:{etag}"
    return f"git-sha1:{etag}" if len(etag) == _SHA1_DIGITS else ""


def _refusal(repository: str, error: Exception) -> ModelError:
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    if isinstance(error, GatedRepoError):
        return ModelError(
            f"the authors of {repository} ask for an agreement first",
            remedy="Agree on its page and log in (hf auth login), then download again.",
        )
    if isinstance(error, RepositoryNotFoundError):
        return ModelError(
            f"{repository} is not on the hub, or only for those who are logged in",
            remedy="Look at its page; log in with: hf auth login.",
        )
    if isinstance(error, OfflineModeIsEnabled):
        return ModelError(
            "downloads are switched off (HF_HUB_OFFLINE)", remedy="Unset it to download."
        )
    if isinstance(error, HfHubHTTPError):
        status = getattr(error.response, "status_code", "an error")
        return ModelError(
            f"the hub answered {status} for {repository}",
            remedy="Try again later; what was downloaded is kept.",
        )
    return ModelError(
        "the hub can't be reached: this computer seems to be offline",
        remedy="What was downloaded is kept; try again when there is a network.",
    )
