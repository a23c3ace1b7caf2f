"""What is done at the machine says who did it there; forgotten with the strangers of its month."""

import getpass
import platform
from base64 import b64decode

from tests.api.schema.asking import ADMIN, ask
from tests.support.server import Server

QUERY = '{ auditLog(first: 20, filter: {actor: "system"}) { nodes { action client entry } } }'
HERE = f"by {getpass.getuser()} on {platform.node()}"


async def test_commands_say_who_sat_at_the_machine(tidewaiter: Server) -> None:
    for words in (f"audit hold --month {tidewaiter.now:%Y-%m} --off", "audit list -n 1", "audit verify --database"):
        done = tidewaiter.command(*words.split())
        assert done.returncode == 0, done.stderr
    nodes = (await ask(tidewaiter, QUERY, ADMIN))["auditLog"]["nodes"]
    told = {node["action"]: node["client"] for node in reversed(nodes)}
    assert told["audit.hold"] == f"tidewaiter audit hold, {HERE}"
    assert told["audit.read"] == f"tidewaiter audit list, {HERE}"
    assert told["audit.verify"] == f"tidewaiter audit verify, {HERE}"
    entries = b"".join(b64decode(node["entry"]) for node in nodes)
    assert b"audit.hold" in entries
    assert HERE.encode() not in entries, "it is sealed"
