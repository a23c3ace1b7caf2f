"""A command line for the ORAS client of Python, which has none: the client's own verbs, and what they say.

    python -m tests.support.oras_command CONFIG token|basic login REGISTRY USER   (password on standard input)
    … logout REGISTRY        … push REFERENCE FILE…        … pull REFERENCE FOLDER

It runs as a program of its own so that the client's memory, warnings and waits are not the tests'.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any

import requests
from oras.client import OrasClient


def main(config: str, door: str, verb: str, target: str, *words: str) -> None:
    client = OrasClient(insecure=True, auth_backend=door)
    match verb:
        case "login":
            client.login(words[0], sys.stdin.read(), hostname=target, config_path=config)
            say(f"The credentials for {target} were kept")
        case "logout":
            client.logout(target)
            Path(config).unlink(missing_ok=True)  # the client forgets in memory only, and leaves the file
        case "push":
            answer = client.push(target, config_path=config, files=list(words), disable_path_validation=True)
            answer.raise_for_status()
            say(f"digest: {answer.headers['Docker-Content-Digest']}")
        case "pull":
            client.session.hooks["response"].append(tell_digest)
            client.auth.load_configs(client.get_container(target), configs=[config])
            client.pull(target, outdir=words[0])
        case _:
            raise SystemExit(f"{verb}: this client has no such verb")


def tell_digest(answer: requests.Response, **_: Any) -> None:
    """The client keeps no bytes of a manifest, so they are hashed on their way in."""
    if "/manifests/" in answer.url and answer.ok:
        say(f"digest: sha256:{hashlib.sha256(answer.content).hexdigest()}")


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
