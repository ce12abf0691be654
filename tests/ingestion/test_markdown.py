"""What a Markdown or MDX page says."""

import json
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatkit_rag.documents import Section
from chatkit_rag.ingestion.markdown import BrokenPage, read_sections, split_front_matter

# fmt: off
OPENINGS = [
    ">", "[", "<div>", "<div>\n", "<Tabs>\n\n", "{", "{\n\n", "<a {", "{/*", "<!--", "- ", "![", "[^", "*a ",
    ":::a\n\n", "import {\n\n", "<table><tr><td>\n", "{`${", '{"\\"', "`", "$a ", "<ul>\n", "<pre>", "[^a]: ",
    "| ", "\n# ",
]
SYNTAX = [
    *"#>-*_`~:|$<>{}[]()!\\/\"'= \t\n\0", "\n\n", "```", ":::", "$$", "<!--", "-->", "{/*", "*/}", "<Tab a={",
    "</", "/>", "<ul>", "<td>", "<pre>", "import ", "export const a =", "text ", "[^1]", "[^1]: ", "1. ", "é",
    "| a |\n|---|\n",
]
# fmt: on


def sections(body: str, *, title: str | None = None, mdx: bool = True) -> tuple[Section, ...]:
    return read_sections(dedent(body), title=title, fallback="Fallback", mdx=mdx)[1]


def blocks(body: str, *, mdx: bool = True) -> tuple[str, ...]:
    return tuple(block for section in sections(body, mdx=mdx) for block in section.blocks)


def anchors(body: str) -> list[str]:
    return [section.anchor for section in sections(body)[1:]]


class TestFrontMatter:
    def test_it_becomes_json_values_and_the_body_is_what_follows(self):
        front_matter, body = split_front_matter(
            "---\ntitle: Nodes\ndate: 2024-05-01\ntags: [a, 1]\n2: two\n---\n# Body\n"
        )

        assert front_matter == {"title": "Nodes", "date": "2024-05-01", "tags": ["a", 1], "2": "two"}
        assert json.loads(json.dumps(front_matter)) == front_matter
        assert split_front_matter('---\na: !!set {y, x}\nb: "\\ud800"\nc: .inf\n---\n')[0] == {
            "a": ["x", "y"],
            "b": "?",
            "c": "inf",
        }
        assert body == "# Body\n"

    @pytest.mark.parametrize("text", ["", "# Body", "--- \n---\n", "---\n# only a comment\n---\n", "---\nno end\n"])
    def test_a_page_without_any_has_none(self, text: str):
        assert split_front_matter(text)[0] == {}

    def test_a_byte_order_mark_and_windows_line_ends_do_no_harm(self):
        assert split_front_matter("\ufeff---\r\nid: a\r\n---\r\nText\r\n") == ({"id": "a"}, "Text\n")

    def test_broken_yaml_is_named_with_its_line(self):
        with pytest.raises(BrokenPage, match=r"line 3.*colon"):
            split_front_matter("---\nid: a\ntitle: One: two: three\n---\n")

    @pytest.mark.parametrize(
        "yaml",
        [
            "- a\n- b",
            "just text",
            "a: &a [*a]",
            "a: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + "\n".join(f"{b}: &{b} [{','.join(['*' + a] * 10)}]" for a, b in zip("abcdef", "bcdefg", strict=True)),
            "a: " + "[" * 5_000,
            "a: !!python/object/apply:os.getcwd []",
            "a: 2024-99-99",
            "a: !!bool maybe",
            "a: !!int ''",
            "a: !!timestamp soon",
        ],
        ids=["list", "text", "endless", "exploding", "deep", "code", "date", "truth", "number", "time"],
    )
    def test_what_is_no_mapping_of_plain_values_is_refused(self, yaml: str):
        with pytest.raises(BrokenPage):
            split_front_matter(f"---\n{yaml}\n---\n")


class TestTitle:
    def test_the_front_matters_goes_first_then_the_first_heading_then_the_fallback(self):
        body = "# From `the` text {#id}\n"

        assert read_sections(body, title="Given", fallback="Fallback", mdx=True)[0] == "Given"
        assert read_sections(body, title=None, fallback="Fallback", mdx=True)[0] == "From the text"
        assert read_sections("## Two\n", title=" ", fallback="Fallback", mdx=True)[0] == "Fallback"

    def test_a_first_heading_that_says_something_else_is_a_heading_of_its_own(self):
        read = sections("# Understanding nodes\n\nText.\n\n## More\n", title="Nodes")

        assert [(section.heading_path, section.anchor) for section in read] == [
            (("Nodes",), ""),
            (("Nodes", "Understanding nodes"), ""),
            (("Nodes", "Understanding nodes", "More"), "more"),
        ]


class TestBrackets:
    @pytest.mark.parametrize("text", ["[" * 100_000, "![" * 100_000, ("![" * 50 + "\n\n") * 2_000])
    def test_a_page_of_more_than_people_write_is_refused_before_they_are_read(self, text: str):
        with pytest.raises(BrokenPage, match="brackets"):
            sections(text)

    def test_those_in_a_code_block_do_not_count(self):
        assert len(blocks("```json\n" + "[" * 100_000 + "\n```\n\n[A link](/a)")) == 2


class TestHeadings:
    def test_each_begins_a_section_even_an_empty_one(self):
        read = sections("""\
            # Title

            Start.

            ## One
            #### Skipped a level
            Text.

            Two
            ---
            """)

        assert [(section.heading_path, section.anchor, section.blocks) for section in read] == [
            (("Title",), "", ("Start.",)),
            (("Title", "One"), "one", ()),
            (("Title", "One", "Skipped a level"), "skipped-a-level", ("Text.",)),
            (("Title", "Two"), "two", ()),
        ]

    @pytest.mark.parametrize(
        ("heading", "anchor"),
        [
            ("Create a ROS 2 node", "create-a-ros-2-node"),
            ("Using `rclpy.spin()` and [links](x.md)", "using-rclpyspin-and-links"),
            ("What's **bold**, *what* _isn't_?", "whats-bold-what-isnt"),
            ("a_b - c -- d", "a_b---c----d"),
            ("Über Größe: naïve café", "über-größe-naïve-café"),
            ("نوڈز کیا ہیں؟", "نوڈز-کیا-ہیں"),
            ("हिन्दी शीर्षक", "हिन्दी-शीर्षक"),
            ("第一章 ノード", "第一章-ノード"),
            ("😄 Emoji 🚀", "-emoji-"),
            ("A & B &amp; C", "a--b--c"),
            ("Ⓐ ½ x²", "ⓐ--x"),
            ("![Logo](l.svg) <b>HTML</b>", "logo-html"),
            ("Energy $E = mc^2$", "energy-e--mc2"),
            ("Explicit {#My-Id_1.2}", "My-Id_1.2"),
            ("Explicit with `code`{#x}", "x"),
            ("Explicit {/* #from-comment */}", "from-comment"),
            ("Explicit <!-- #from-html -->", "from-html"),
            ("{#not-at-the-end} text", "not-at-the-end-text"),
        ],
    )
    def test_anchors_are_docusaurus_own(self, heading: str, anchor: str):
        assert anchors(f"## {heading}\n") == [anchor]

    def test_explicit_ids_do_not_show(self):
        read = sections("## One {#a}\n## Two {/* #b */}\n")

        assert [section.heading_path[-1] for section in read[1:]] == ["One", "Two"]

    def test_repeated_headings_are_numbered_and_the_title_counts(self):
        assert anchors("# Setup\n## Setup\n## Setup\n## Setup 1\n## Other {#setup}\n") == [
            "setup-1",
            "setup-2",
            "setup-1-1",
            "setup",
        ]

    @given(st.lists(st.text("ab -1", max_size=4), max_size=12))
    def test_anchors_are_unique_on_a_page(self, texts: list[str]):
        found = [anchor for anchor in anchors("".join(f"## {text}\n" for text in texts)) if anchor]

        assert len(found) == len(set(found))

    def test_code_and_comments_hold_none(self):
        body = """\
            ```bash
            # not a heading
            ## nor this
            ```

            <!--
            ## hidden
            -->
            """

        assert anchors(body) == []

    def test_those_in_an_admonition_or_a_component_begin_sections(self):
        assert anchors(":::note\n## In a note\n:::\n\n<Card>\n\n## In a card\n\n</Card>\n") == [
            "in-a-note",
            "in-a-card",
        ]

    def test_those_in_a_list_or_quotation_stay_there_as_text(self):
        assert blocks("- ### Step\n  Do it.\n\n> ## Quoted\n") == ("- Step\n\n  Do it.", "> Quoted")


class TestBlocks:
    def test_hard_wrapped_paragraphs_become_one_line(self):
        assert blocks("One sentence that\nis wrapped.\n\nAnother\\\nline.\n") == (
            "One sentence that is wrapped.",
            "Another\nline.",
        )

    def test_links_are_their_text_and_images_their_alternative(self):
        assert blocks("""\
            See [the **docs**](x.md "t"), [ref][r], [r] and <https://a.org>.

            ![A graph of *nodes*](graph.svg)

            Press ![the play button](p.svg) now. ![](empty.svg)

            [r]: https://b.org
            """) == (
            "See the **docs**, ref, r and https://a.org.",
            "Figure: A graph of nodes",
            "Press the play button now.",
        )

    def test_addresses_in_angle_brackets_are_text(self):
        assert blocks("<ada@example.org>\n\n<https://a.org/b>\n") == ("ada@example.org", "https://a.org/b")

    def test_lists_and_tables_keep_their_lines(self):
        assert blocks("""\
            - one
              wrapped
              1. nested
            - [x] two

              more

            3. three
            4. four

            | A | B |
            |:--|--:|
            | `a` | [b](x) |
            | c \\| d | |
            """) == (
            "- one wrapped\n  1. nested\n- [x] two\n\n  more",
            "3. three\n4. four",
            "| A | B |\n| --- | --- |\n| `a` | b |\n| c \\| d |  |",
        )

    def test_quotations_formulas_and_footnotes_are_kept(self):
        assert blocks("""\
            > Quoted
            > text.
            >
            > More.

            With $a_{1} * b$ it costs $5 or $10.[^1]

            $$
            \\frac{a}{b}
            $$

            [^1]: The note.
            """) == (
            "> Quoted text.\n>\n> More.",
            "With $a_{1} * b$ it costs $5 or $10.[^1]",
            "$$\n\\frac{a}{b}\n$$",
            "[^1]: The note.",
        )

    def test_fences_are_verbatim_with_language_and_title(self):
        code = 'import x from "y"\n\n<Tag a={b}>{c}</Tag>\n  # <!-- kept -->\n'

        assert blocks(f'```jsx title="a.js" {{1,3}} showLineNumbers\n{code}```\n\n~~~~\n```\n~~~~\n') == (
            f'```jsx title="a.js"\n{code}```',
            "~~~~\n```\n~~~~",
        )

    def test_indented_code_is_code_in_markdown_only(self):
        assert blocks("Text.\n\n    a = {}\n    b\n", mdx=False) == ("Text.", "```\na = {}\nb\n```")
        assert blocks("Text.\n\n    words\n", mdx=True) == ("Text.", "words")

    def test_admonitions_say_what_they_are(self):
        assert blocks("""\
            :::tip
            Short.
            :::

            ::::warning[With *a* title]
            Text.

            :::note Nested
            ```sh
            ls
            ```
            :::

            After.
            ::::
            """) == (
            "Tip: Short.",
            "Warning: With *a* title\nText.",
            "Note: Nested",
            "```sh\nls\n```",
            "After.",
        )

    def test_github_alerts_are_admonitions_too(self):
        assert blocks("> [!WARNING]\n> Hot.\n") == ("> Warning: Hot.",)

    def test_html_leaves_its_text(self):
        body = """\
            <details>
            <summary>Click <b>me</b></summary>

            Hidden *text* &amp; more.<br/>Line two.

            </details>

            <table>
              <tr><th>Name</th><th>Use</th></tr>
              <tr>
                <td>a</td>
                <td>b</td>
              </tr>
            </table>

            <ul>
              <li>one</li>
              <li>two</li>
            </ul>

            <pre><code>x &lt; 1
              ```</code></pre>

            <script>
            var hidden;

            </script>

            A <!-- gone --> B <span class="x">C</span> {/* gone */} D
            """
        expected = (
            "Click me",
            "Hidden *text* & more.\nLine two.",
            "| Name | Use |\n| --- | --- |\n| a | b |",
            "- one\n- two",
            "````\nx < 1\n  ```\n````",
            "A B C D",
        )

        assert blocks(body, mdx=True) == expected
        assert blocks(body, mdx=False) == expected

    @pytest.mark.parametrize("mdx", [True, False])
    def test_what_only_looks_like_a_tag_survives(self, *, mdx: bool):
        line = "If a < b and x < 5 and y > 3, then a<1 && 2>b \\<div> and 3 <= 4 -> 5."

        assert blocks(line, mdx=mdx) == (line.replace("\\<", "<"),)


class TestMdx:
    def test_imports_and_exports_are_left_out(self):
        assert blocks("""\
            import Tabs from '@theme/Tabs';
            import {
              a,

              b as c,
            } from "./x";
            import './style.css'

            export const f = ({children}) => {
              const text = `}${children}`; // }

              return <p>don't {text}</p>;
            };

            export default f

            Text that follows.

            import your data from the menu, and export your results.
            """) == ("Text that follows.", "import your data from the menu, and export your results.")

    def test_components_leave_their_children(self):
        assert blocks("""\
            <Tabs groupId="os" values={[{label: 'no }', value: "x"}]}>
              <TabItem value="ubuntu" label="Ubuntu" default>

                Run **this**:

                ```bash
                apt install {x}
                  --yes
                ```

              </TabItem>
              <TabItem value="mac">Use brew.</TabItem>
            </Tabs>

            <Button
              onClick={() => { if (a > b) { go("}") } }}
              style={{color: 'red'}} {...rest}
            >
              Press <Icon name="x"/>me
            </Button>

            <>
            In a fragment.
            </>

            <Video title="How a node starts" src="v.mp4" /> <img alt="A robot" src="r.png" />
            """) == (
            "Ubuntu\nRun **this**:",
            "```bash\napt install {x}\n  --yes\n```",
            "mac\nUse brew.",
            "Press me",
            "In a fragment.",
            "How a node starts",
            "Figure: A robot",
        )

    def test_expressions_are_left_out_but_for_what_they_plainly_show(self):
        assert blocks("""\
            export const period = 0.5;
            export const unit = 'seconds';

            It beats every {period.toFixed(1)}{" "}{unit}, {props.x} and \\{that} is `{code}`.

            {
              items.map(item => <li>{item}</li>)
            }

            {/* a

            comment */}
            """) == ("It beats every 0.5 seconds, and {that} is `{code}`.",)

    def test_a_markdown_page_is_mdx_as_soon_as_it_looks_like_it(self):
        assert blocks("The set {1, 2}.", mdx=False) == ("The set {1, 2}.",)
        assert blocks("```\n<Tabs>\n```\n\nThe set {1, 2}.", mdx=False)[1] == "The set {1, 2}."
        assert blocks("<Card>\n\n    Indented {x} text.\n\n</Card>\n", mdx=False) == ("Indented text.",)

    def test_an_unclosed_brace_or_tag_is_text(self):
        assert blocks("A { b\n\nC <d e\n") == ("A { b", "C <d e")


class TestRobustness:
    @pytest.mark.parametrize("piece", OPENINGS)
    @pytest.mark.parametrize("mdx", [True, False])
    @pytest.mark.timeout(20)
    def test_ten_thousand_openings_are_read_in_seconds(self, piece: str, *, mdx: bool):
        read = sections(piece * 10_000 + "\n\nend", mdx=mdx)

        assert read[0].heading_path == ("Fallback",)

    @pytest.mark.parametrize("piece", ["{", "{/*"])
    @pytest.mark.parametrize("mdx", [True, False])
    @pytest.mark.timeout(20)
    def test_so_are_a_hundred_thousand_of_those_that_look_far_ahead(self, piece: str, *, mdx: bool):
        assert sections(piece * 100_000, mdx=mdx)[0].blocks == (piece * 100_000,)

    @pytest.mark.parametrize("mdx", [True, False])
    def test_what_stands_behind_a_thousand_unclosed_things_is_still_read(self, *, mdx: bool):
        assert blocks("<div>\n" * 1_000 + "\nend", mdx=mdx) == ("end",)
        assert "end" in blocks("A { b\n\n" * 1_000 + "end", mdx=mdx)

    @given(text=st.lists(st.sampled_from(SYNTAX), max_size=40).map("".join) | st.text(max_size=60), mdx=st.booleans())
    def test_any_text_can_be_read(self, text: str, *, mdx: bool):
        title, read = read_sections(text, title=None, fallback="Fallback", mdx=mdx)

        assert title
        assert read[0].heading_path == (title,)
        assert all(block.strip() for section in read for block in section.blocks)

    @given(st.text(max_size=80))
    def test_any_front_matter_is_read_or_refused(self, text: str):
        try:
            front_matter, _ = split_front_matter(f"---\n{text}\n---\n")
        except BrokenPage:
            return

        json.dumps(front_matter, allow_nan=False, ensure_ascii=False).encode()
