"""IDs in the console's sentences lead to pages, and times are of the viewer's zone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup, escape

from scim_matrix.console.linking import linked
from scim_matrix.console.times import zone


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("@ann:example.com: made for this user.", ["people/%40ann%3Aexample.com"]),
        ("in !room:example.com.", ["rooms/%21room%3Aexample.com"]),
        ("Lobby (!room:example.com:8448), too", ["rooms/%21room%3Aexample.com%3A8448"]),
        ("in !" + "a-Z_" * 10 + "abc: gone", ["rooms/%21" + "a-Z_" * 10 + "abc"]),
        ("@a:x and @b:x", ["people/%40a%3Ax", "people/%40b%3Ax"]),
        ("ann@example.com writes", []),
        ("#alias:example.com", []),
        ("Staff; request 0123456789abcdef).", ["log?request=0123456789abcdef"]),
        ("2 requests, request command line, 0123456789abcdef", []),
    ],
)
def test_ids_become_links(text: str, paths: list[str]) -> None:
    """User IDs and room IDs do, without a sentence's punctuation; nothing else does."""
    html = str(linked(text))
    assert html.count("<a ") == len(paths)
    for path in paths:
        assert f'href="/console/{path}"' in html


def test_an_id_stays_in_one_piece() -> None:
    """It is broken only where a line is shorter, and no line begins with what ends its sentence."""
    scim_id = "dec714e0-e991-4dcb-8f4a-648eb6aaef42"
    assert linked(f"SCIM id {scim_id}.") == f'SCIM id <span class="whole">{scim_id}.</span>'
    html = linked("scim-matrix approve '!a:x', or dismiss")
    assert html.startswith('scim-matrix approve <span class="whole">&#39;<a ')
    assert html.endswith(">!a:x</a>&#39;,</span> or dismiss")


def test_everything_else_is_escaped() -> None:
    """Text beside an ID is text."""
    html = linked("<b>@ann:x</b> & <script>")
    assert str(html).startswith('&lt;b&gt;<span class="whole"><a ')
    assert str(html).endswith("</a></span>&lt;/b&gt; &amp; &lt;script&gt;")


def test_times_in_sentences_are_of_the_viewers_zone() -> None:
    """As a story writes them; other numbers stay."""
    html = str(linked("since 2026-07-01 22:30 UTC, request 2026-07-01", zone("Europe/Berlin")))
    assert "since <time " in html
    assert ">2026-07-02 00:30 CEST</time>, request 2026-07-01" in html


@pytest.mark.parametrize(
    "name",
    [
        "Party 2026-02-30 20:00 UTC",
        "2026-11-29 25:00 UTC",
        "0000-01-01 00:00 UTC",
        "0001-01-01 00:00 UTC",
        "9999-12-31 23:59 UTC",
        "٢٠٢٦-٠٢-٣٠ ٢٠:٠٠ UTC",
    ],
)
@pytest.mark.parametrize("place", ["UTC", "Europe/Berlin", "America/New_York"])
def test_names_that_look_like_times_are_names(name: str, place: str) -> None:
    """Whoever names a room or a group ends no page by it."""
    html = linked(name, zone(place))
    assert html == name or html.startswith("<time ")


@given(st.text("0129-: UTC@!ab.:~_\u202e", max_size=60))
def test_any_text_can_be_shown(text: str) -> None:
    """Sentences hold names that somebody else chose."""
    assert Markup(linked(text)).striptags().split() == Markup(escape(text)).striptags().split()


def test_a_rooms_name_leads_to_it() -> None:
    """Where an ID stands behind what the room is called; any other word before it is text."""
    names = {"!a:x": "The <b> (one)"}
    html = str(linked("in The <b> (one) (!a:x): there", names=names))
    assert ">The &lt;b&gt; (one)</a>:</span> there" in html
    assert html.startswith('in <span class="whole"><a href="/console/rooms/%21a%3Ax" title="!a:x">')
    html = str(linked("in Another (!a:x): there", names=names))
    assert html.startswith('in Another <span class="whole">(<a ')
    assert html.endswith(">!a:x</a>):</span> there")
