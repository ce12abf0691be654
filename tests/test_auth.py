"""Who asks: session tokens, and the header they come in."""

from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from starlette.requests import HTTPConnection

from chatkit_rag.auth import SessionTokens, bearer_token, nobody
from chatkit_rag.context import Principal, utc_now
from chatkit_rag.errors import ConfigurationError, Unauthenticated

SECRET = "a secret of more than thirty-two bytes"
TOKENS = SessionTokens(SECRET)
ADA = Principal("ada", tenant="school")


def connection(*headers: tuple[bytes, bytes]) -> HTTPConnection:
    return HTTPConnection({"type": "http", "headers": list(headers)})


def forged(secret: str = SECRET, algorithm: str = "HS256", **changes: Any) -> str:
    """A token like ours, but for the changes; None leaves a claim out."""
    now = utc_now()
    claims = {"aud": "chatkit-rag/session", "sub": "ada", "tenant": "", "iat": now, "exp": now + timedelta(minutes=5)}
    kept = {name: value for name, value in (claims | changes).items() if value is not None}
    return jwt.encode(kept, secret, algorithm=algorithm)


def refused(token: str) -> None:
    for verify in (TOKENS.verify, TOKENS.verify_refreshable):
        with pytest.raises(Unauthenticated):
            verify(token)


class TestSessionTokens:
    def test_a_token_names_the_reader_that_it_was_issued_to(self):
        session = TOKENS.issue(ADA)

        assert TOKENS.verify(session.client_secret).owner == ("school", "ada")

    def test_it_says_when_it_ends(self):
        now = datetime(2030, 1, 1, 12, 0, 0, 999, tzinfo=UTC)

        assert TOKENS.issue(ADA, now=now).expires_at == datetime(2030, 1, 1, 12, 15, tzinfo=UTC)

    def test_it_carries_neither_roles_nor_claims(self):
        powerful = Principal("ada", roles=("author",), claims={"email": "ada@example.org"})

        again = TOKENS.verify(TOKENS.issue(powerful).client_secret)

        assert (again.roles, dict(again.claims)) == ((), {})

    def test_every_anonymous_reader_is_another(self):
        readers = {TOKENS.verify(TOKENS.issue_anonymous().client_secret).id for _ in range(100)}

        assert len(readers) == 100
        assert all(reader.startswith("anon_") for reader in readers)

    @pytest.mark.parametrize(
        ("age", "good", "refreshable"),
        [
            (timedelta(minutes=14), True, True),
            (timedelta(minutes=16), False, True),
            (timedelta(days=29), False, True),
            (timedelta(days=31), False, False),
        ],
    )
    def test_it_ends_and_can_be_exchanged_for_a_while(self, age: timedelta, *, good: bool, refreshable: bool):
        token = TOKENS.issue(ADA, now=utc_now() - age).client_secret

        for verify, expected in [(TOKENS.verify, good), (TOKENS.verify_refreshable, refreshable)]:
            if expected:
                assert verify(token).owner == ADA.owner
            else:
                with pytest.raises(Unauthenticated):
                    verify(token)

    def test_a_token_like_ours_is_good(self):
        assert TOKENS.verify(forged()).id == "ada"
        assert TOKENS.verify(forged(tenant=None)).tenant == ""

    @pytest.mark.parametrize(
        "changes",
        [
            {"secret": "another secret of more than thirty-two bytes"},
            {"secret": SECRET * 2, "algorithm": "HS512"},
            {"secret": "", "algorithm": "none"},
            {"aud": "somebody-else"},
            {"aud": None},
            {"sub": None},
            {"sub": ""},
            {"tenant": 3},
            {"exp": None},
            {"exp": 10**30},
            {"exp": -(10**30)},
            {"exp": "soon"},
            {"iat": None},
            {"iat": 10**10},
        ],
        ids=str,
    )
    def test_one_that_differs_is_not(self, changes: dict[str, Any]):
        refused(forged(**changes))

    @pytest.mark.parametrize("token", ["", ".", "..", "a.b.c", "é.é.é", "\ud800", "x" * 100_000], ids=range(7))
    def test_nor_is_anything_else(self, token: str):
        refused(token)

    def test_a_changed_letter_anywhere_spoils_it(self):
        token = TOKENS.issue(ADA).client_secret

        # The last letter of each part carries bits that mean nothing; what stands before it means everything.
        for place in range(len(token) - 1):
            if token[place] == "." or token[place + 1] == ".":
                continue
            tampered = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
            refused(tampered)

    def test_a_short_secret_is_refused_at_once(self):
        SessionTokens("x" * 32)
        SessionTokens("é" * 16)
        with pytest.raises(ConfigurationError):
            SessionTokens("x" * 31)


class TestBearerToken:
    @pytest.mark.parametrize("header", [b"Bearer abc", b"bearer abc", b"BEARER  abc "])
    def test_it_is_what_follows_the_scheme(self, header: bytes):
        assert bearer_token(connection((b"authorization", header))) == "abc"

    def test_without_a_header_there_is_none(self):
        assert bearer_token(connection()) is None

    @pytest.mark.parametrize("header", [b"", b"Bearer", b"Bearer ", b"Bearer   ", b"abc", b"Basic abc", b"Bearerabc"])
    def test_another_header_is_an_error_and_not_an_anonymous_reader(self, header: bytes):
        with pytest.raises(Unauthenticated):
            bearer_token(connection((b"authorization", header)))


def test_nobody_is_recognised_by_nobody():
    assert nobody(connection((b"authorization", b"Bearer abc"))) is None


def test_a_principal_needs_an_id():
    with pytest.raises(ValueError):
        Principal("")


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "a\udfff"])
def test_a_principal_s_id_and_tenant_are_texts_that_every_database_keeps(text: str):
    with pytest.raises(ValueError, match="NUL"):
        Principal(text)
    with pytest.raises(ValueError, match="NUL"):
        Principal("ada", tenant=text)
