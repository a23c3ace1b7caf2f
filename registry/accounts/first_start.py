"""The first start: an installation gets its account `admin` with the user `admin`, who administers the platform."""

import secrets
import string

from policies.quotas import Key
from registry.accounts.passwords import Passwords
from registry.accounts.tables import Account, User
from registry.actors import SYSTEM, Origin
from registry.places import Place
from registry.work import Foundation

NAME = "admin"


async def first_start(foundation: Foundation, passwords: Passwords) -> str | None:
    """Makes the administrator if there is none; returns the password when one was generated, to be shown once.

    Two servers that start at the same time make one administrator: the second waits for the first, and finds it.
    """
    async with foundation.begin(SYSTEM, Origin()) as work:
        await work.execute("SELECT pg_advisory_xact_lock(hashtext('first_start'))")
        if await work.fetchval("SELECT 1 FROM users LIMIT 1"):
            return None
        given = foundation.settings.admin_password
        password = given.get_secret_value() if given else _made_up()
        account = Account(name=NAME, created_at=work.now)
        place = Place("account", NAME, account_id=account.id)
        work.attempt("account.create", NAME, place=place)
        await work.add(account)
        # The platform's own account is not held to what tenants get by default.
        await work.execute(
            "INSERT INTO quota_counter (scope_kind, scope_id, key, charged, explicit)"
            " VALUES ('account', $1, $2, 0, true)",
            account.id,
            Key.ORGANIZATIONS.value,
        )
        work.record(changes={"name": [None, NAME]})
        work.attempt("user.create", NAME, place=place, about=NAME)
        user = User(
            account_id=account.id,
            name=NAME,
            password_hash=await passwords.hash(password),
            owner=True,
            platform_admin=True,
            created_at=work.now,
        )
        await work.add(user)
        work.charge(Key.USERS, 1, place)
        work.concerns(user.id)
        work.record(changes={"name": [None, NAME], "platformAdmin": [None, True]})
    return None if given else password


def _made_up() -> str:
    """119 random bits, of letters and digits only: it is copied by double click, and must never look like an option."""
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(20))
