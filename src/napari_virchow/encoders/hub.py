"""The Hugging Face hub: log in, and fetch an encoder's weights unless the cache has them."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

from napari_virchow.encoders.specs import EncoderSpec, EncoderUnavailable
from napari_virchow.encoders.weights import FILE_NAMES, INDEX, find_weights, shard_names

TOKEN_PAGE = "huggingface.co/settings/tokens"


def log_in(token: str, *, endpoint: str | None = None) -> str:
    """Check a token with the hub, keep it for next time, and return the account's name.

    Parameters
    ----------
    token : str
        A read token; white space around it is ignored.
    endpoint : str, optional
        Another hub than the usual one; its token is checked but not kept.

    Raises
    ------
    EncoderUnavailable
        If the token is empty or wrong, or the hub cannot be reached.
    """
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError

    token = token.strip()
    if not token:
        raise EncoderUnavailable(f"the token is empty: copy one from {TOKEN_PAGE}.")
    try:
        account = huggingface_hub.HfApi(endpoint=endpoint).whoami(token)
    except HfHubHTTPError as error:
        if error.response.status_code in (401, 403):
            raise EncoderUnavailable(
                f"the hub does not know this token: make a read token at {TOKEN_PAGE}, copy all "
                "of it, and log in again."
            ) from error
        raise EncoderUnavailable(
            f"the hub answered with error {error.response.status_code}: try again later."
        ) from error
    except _network_errors() as error:
        raise EncoderUnavailable(
            "the Hugging Face hub cannot be reached: check the network and log in again."
        ) from error
    if endpoint is None:
        huggingface_hub.login(token, add_to_git_credential=False, skip_if_logged_in=False)
    return str(account.get("name", "unknown"))


def cached_weights(spec: EncoderSpec, *, cache: Path | None = None) -> tuple[Path, ...] | None:
    """Return the weights files in the local hub cache, or None; never touches the network."""
    if spec.hub_id is None:
        return None
    for revision in dict.fromkeys((spec.revision, None)):
        for name in FILE_NAMES:
            found = _cached(spec.hub_id, name, revision, cache)
            if found is None:
                continue
            shards = shard_names(found) if name == INDEX else []
            if all(_cached(spec.hub_id, shard, revision, cache) for shard in shards):
                return find_weights(found)
    return None


def _cached(hub_id: str, name: str, revision: str | None, cache: Path | None) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, name, cache_dir=cache, revision=revision)
    return Path(found) if isinstance(found, str) else None


def fetch_weights(
    spec: EncoderSpec,
    *,
    token: str | None = None,
    endpoint: str | None = None,
    cache: Path | None = None,
    on_progress: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Return an encoder's weights files, downloading them only when the cache has none.

    Parameters
    ----------
    spec : EncoderSpec
        A row with a hub id.
    token : str, optional
        Instead of ``HF_TOKEN`` or the token kept by `log_in`.
    endpoint, cache : str and Path, optional
        Another hub and another cache folder than the usual ones.
    on_progress : callable, optional
        Told what is going on before it starts.

    Raises
    ------
    EncoderUnavailable
        Saying what stands in the way and what to do.
    """
    if spec.hub_id is None:
        raise EncoderUnavailable(
            f"{spec.title} cannot be downloaded: give its weights file, or the address and key "
            "of your Azure endpoint."
        )
    found = cached_weights(spec, cache=cache)
    if found is not None:
        return found
    if on_progress is not None:
        on_progress(f"Downloading {spec.title} from {spec.hub_id}…")
    for name in FILE_NAMES:
        path = _download(spec, name, token, endpoint, cache)
        if path is None:
            continue
        for shard in shard_names(path) if name == INDEX else []:
            _download(spec, shard, token, endpoint, cache)
        return find_weights(path)
    raise EncoderUnavailable(
        f"{spec.hub_id} has none of the files {', '.join(FILE_NAMES)}: give a local weights file."
    )


def _download(
    spec: EncoderSpec, name: str, token: str | None, endpoint: str | None, cache: Path | None
) -> Path | None:
    """Download one file; None when the repository does not have it."""
    from huggingface_hub import errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

    hub_id = str(spec.hub_id)
    try:
        # A download retries for half a minute before it says that there is no network; this asks
        # once.
        url = hf_hub_url(hub_id, name, revision=spec.revision, endpoint=endpoint)
        get_hf_file_metadata(url, token=token)
        return Path(
            hf_hub_download(
                hub_id,
                name,
                revision=spec.revision,
                token=token,
                endpoint=endpoint,
                cache_dir=cache,
            )
        )
    except errors.LocalEntryNotFoundError as error:  # before EntryNotFoundError, its base
        cause = error.__cause__
        if isinstance(cause, errors.HfHubHTTPError):
            raise EncoderUnavailable(_refusal(spec, cause, token)) from error
        raise EncoderUnavailable(_unreachable(spec)) from error
    except errors.EntryNotFoundError:
        return None
    except errors.HfHubHTTPError as error:
        raise EncoderUnavailable(_refusal(spec, error, token)) from error
    except _network_errors() as error:
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise EncoderUnavailable(
                f"the disk is full, so {spec.title} cannot be downloaded: free some space."
            ) from error
        raise EncoderUnavailable(_unreachable(spec)) from error


def _unreachable(spec: EncoderSpec) -> str:
    return (
        f"{spec.title} is not in the local cache and the Hugging Face hub cannot be reached: "
        "check the network, or give a local weights file."
    )


def _refusal(spec: EncoderSpec, error: Exception, token: str | None) -> str:
    """Turn the hub's answer into one sentence that says what to do."""
    from huggingface_hub import errors, get_token

    status = getattr(getattr(error, "response", None), "status_code", None)
    if status == 401 and not (token or get_token()):
        return (
            f"{spec.title} needs a Hugging Face account and no token was found: ask for access at "
            f"huggingface.co/{spec.hub_id}, then log in with a read token from {TOKEN_PAGE}."
        )
    if status == 401:
        return (
            f"the hub does not accept your Hugging Face token for {spec.title}: "
            f"make a new read token at {TOKEN_PAGE} and log in again."
        )
    if isinstance(error, errors.GatedRepoError):
        return (
            f"your Hugging Face account has no access to {spec.title} yet: ask for it at "
            f"huggingface.co/{spec.hub_id} and try again once it is granted."
        )
    if status == 403:
        return (
            f"your Hugging Face token may not read {spec.title}: allow it access to gated "
            f"repositories at {TOKEN_PAGE}."
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return (
            f"{spec.hub_id} no longer has the revision {spec.revision}: give a local weights file."
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"there is no {spec.hub_id} on the hub any more: give a local weights file."
    return f"the hub answered with error {status} for {spec.title}: try again later."


def _network_errors() -> tuple[type[Exception], ...]:
    """Return what is raised when the network fails.

    The hub's HTTP client changed over time (requests, httpx); its own base is the hub error's.
    """
    from huggingface_hub.errors import HfHubHTTPError

    return (OSError, *(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception)))
