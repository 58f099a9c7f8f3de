#!/usr/bin/env python3
"""Tests the chat page in headless Chromium.

    page.py [TEST...]                     against a server of its own that answers as the tests say; Policy needs no browser
    page.py --url http://127.0.0.1:8080   the tests that any server passes, against a running one (--key K)
    page.py --shots DIR                   pictures of the page, at three widths, light and dark; one with --url
    page.py --rehash                      renews the hashes in the page's Content-Security-Policy

Needs Python, and Debian's packages chromium and chromium-driver. Nothing leaves 127.0.0.1.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
import threading
import unittest
from pathlib import Path

from page_support import PAGE, TIMEOUT, Answer, Browser, Server, event, halves, pictures, stream, until


def rehashed(page):
    """The page with the hashes of its own script and style."""
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        page = re.sub(rf"({directive}) '[^']*'", rf"\1 'sha256-{digest}'", page, count=1)
    return page


class Case(unittest.TestCase):
    """A fresh page for every test. What no page may do is checked after each."""

    browser = server = None
    url = key = ""

    def setUp(self):
        if self.server:
            self.server.reset()
        self.browser.call("POST", "/url", {"url": self.url})
        self.js("localStorage.clear(); sessionStorage.clear()")
        if self.key:
            self.js("sessionStorage.setItem('trilobite.key', arguments[0])", self.key)
        self.browser.size(1280, 800)
        self.browser.scheme("light")
        self.open()

    def tearDown(self):
        self.assertEqual(self.js("return faults"), [])
        outside = "return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith(location.origin + '/') && !n.startsWith('data:'))"
        self.assertEqual(self.js(outside), [])

    def open(self):
        self.browser.call("POST", "/url", {"url": self.url})
        if self.server is None or self.server.key is None:
            until(lambda: self.js("return document.querySelector('#models').value"), "the list of models")

    def js(self, script, *arguments):
        return self.browser.js(script, *arguments)

    def text(self, css):
        """The texts of elements. innerText would be empty where the browser has not laid anything out."""
        return self.js("""return [...document.querySelectorAll(arguments[0])].filter((node) => !node.closest('[hidden]')).map((node) => {
            const copy = node.cloneNode(true);
            copy.querySelectorAll('br').forEach((line) => line.replaceWith('\\n'));
            copy.querySelectorAll('p + p').forEach((paragraph) => paragraph.prepend('\\n\\n'));
            return copy.textContent.trim(); })""", css)

    def ask(self, text, *answers):
        """Types a message and sends it. With answers, waits until the last has been written."""
        for answer in answers:
            self.server.answers.put(answer)
        self.browser.type("#text", text)
        self.browser.keys("enter")
        if answers:
            self.idle()

    def answer(self, text, **options):
        """Has the server say a text, and returns the selector of it."""
        self.ask("say it", Answer.text(text, **options))
        return "article.assistant:last-child .markdown"

    def idle(self):
        until(lambda: self.js("return document.querySelector('#send').textContent === 'Send' && document.querySelector('article.assistant') !== null"), "the end of the answer")

    def focus(self):
        return self.js("return document.activeElement.id")


class AnyServer(Case):
    """What must hold with any server and any model."""

    def test_question_answer_and_reload(self):
        self.ask("Once upon a time")
        self.idle()
        self.assertEqual(self.text(".wrong"), [])
        answer, note = self.text("article.assistant .markdown")[0], self.text("article.assistant footer .quiet")[0]
        self.assertTrue(answer.strip())
        self.assertRegex(note, r"^\d+ tokens.* · prompt \d+ tokens")
        self.open()
        self.browser.press("Once upon a time", "#list")
        self.assertEqual(self.text("article.assistant .markdown"), [answer])

    def test_settings_limit_the_answer_and_fix_it(self):
        self.js("localStorage.setItem('trilobite.settings', JSON.stringify({max_tokens: 8, temperature: 1, seed: 4}))")
        self.open()
        answers = []
        for _ in range(2):
            self.browser.press("New conversation")
            self.ask("Once upon a time")
            self.idle()
            answers += self.text("article.assistant .markdown")
            self.assertRegex(self.text("article.assistant footer .quiet")[0], r"^[1-8] tokens")
        self.assertEqual(answers[0], answers[1])

    def test_stop(self):
        self.ask("Write a long story about everything there is")
        until(lambda: self.text("article.assistant .markdown")[0].strip(), "the first words")
        self.browser.keys("escape")
        self.idle()
        self.assertEqual(self.text(".wrong"), [])


class Policy(unittest.TestCase):
    def test_hashes_are_those_of_the_page(self):
        page = PAGE.read_text()
        self.assertTrue(page == rehashed(page), "the policy's hashes are stale: run page.py --rehash")

    def test_nothing_parses_markup_and_nothing_is_loaded(self):
        page = PAGE.read_text()
        for word in ("innerHTML", "outerHTML", "insertAdjacent", "document.write", "DOMParser", "eval(", "srcdoc", "@import", "url("):
            self.assertNotIn(word, page.replace("refuse innerHTML", ""))
        self.assertEqual(re.findall(r'(?:src|href)="(?!#|data:)[^"]*"', page), [])


class Talking(Case):
    def test_events_cut_anywhere(self):
        """The parser alone: between a server and a browser, pieces may be joined again."""
        data = "data: Grüße 世界\n\n: comment\r\ndata:🦴\r\ndata:  two\r\n\r\nevent: x\ndata: [DONE]\n\ndata: unfinished".encode()
        for size in range(1, len(data) + 1):
            found = self.browser.call("POST", "/execute/async", {"script": """const [bytes, size, done] = arguments;
                const body = new ReadableStream({ start(out) {
                    for (let at = 0; at < bytes.length; at += size) out.enqueue(new Uint8Array(bytes.slice(at, at + size)));
                    out.close();
                } });
                (async () => { const all = []; for await (const data of events(body)) all.push(data); return all; })().then(done)""", "args": [list(data), size]})
            self.assertEqual(found, ["Grüße 世界", "🦴\n two", "[DONE]"], size)

    def test_stream_cut_anywhere(self):
        text = "Grüße, 世界! 🦴\n\nA second **paragraph**."
        for size in (1, 2, 3, 7, 64, None):
            with self.subTest(size=size):
                self.browser.press("New conversation")
                self.ask("hello", Answer.text(text, size=size))
                self.assertEqual(self.text("article.assistant .markdown"), ["Grüße, 世界! 🦴\n\nA second paragraph."])

    def test_lines_end_in_crlf(self):
        self.ask("hello", Answer(*(bytes([byte]) for byte in stream("one two").replace(b"\n", b"\r\n"))))
        self.assertEqual(self.text("article.assistant .markdown"), ["one two"])

    def test_words_are_shown_before_the_end(self):
        go = threading.Event()
        self.ask("hello")
        data = stream("first second", step=6)
        cut = data.index(b"data: ", data.index(b"first"))
        self.server.answers.put(Answer(data[:cut], go, data[cut:]))
        until(lambda: "first" in self.text("article.assistant .markdown")[0], "the first words")
        self.assertEqual(self.text("#send"), ["Stop"])
        go.set()
        self.idle()
        self.assertIn("second", self.text("article.assistant .markdown")[0])

    def test_tokens_and_speed(self):
        self.ask("hello", Answer.text("abc" * 20, step=3))
        self.assertRegex(self.text("footer .quiet")[0], r"^20 tokens .*first after \d+\.\d\d s · prompt 7 tokens$")
        self.ask("and without usage", Answer.text("abc" * 20, step=3, usage=False))
        self.assertRegex(self.text("footer .quiet")[-1], r"^about 20 tokens")

    def test_request_has_the_conversation_and_the_settings(self):
        self.browser.press("Settings")
        self.browser.type("#system", "Be brief.")
        for name, value in {"temperature": "0.5", "top_p": "0.9", "top_k": "40", "min_p": "0.05", "max_tokens": "99", "seed": "7"}.items():
            self.browser.type("#set-" + name, value)
        self.browser.press("Done")
        self.ask("one", Answer.text("<think>hm</think>two"))
        self.open()
        self.browser.press("one")
        self.ask("three", Answer.text("four"))
        self.assertEqual(self.server.requests[1], {
            "model": "tiny", "stream": True, "stream_options": {"include_usage": True},
            "temperature": 0.5, "top_p": 0.9, "top_k": 40, "min_p": 0.05, "max_tokens": 99, "seed": 7,
            "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "one"},
                         {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}]})
        self.browser.press("Settings")
        self.browser.press("Reset")
        self.browser.press("Done")
        self.ask("five", Answer.text("six"))
        self.assertEqual(set(self.server.requests[2]), {"model", "stream", "stream_options", "messages"})

    def test_settings_out_of_range_are_not_kept(self):
        self.browser.press("Settings")
        self.browser.type("#set-top_p", "1.5")
        self.browser.keys("tab")
        self.browser.press("Done")
        self.ask("one", Answer.text("two"))
        self.assertNotIn("top_p", self.server.requests[0])

    def test_choice_of_models(self):
        self.server.models = ["tiny", "large"]
        self.open()
        self.js("const m = document.querySelector('#models'); m.value = 'large'; m.dispatchEvent(new Event('change'))")
        self.open()
        self.ask("hello", Answer.text("hi"))
        self.assertEqual(self.server.requests[0]["model"], "large")

    def test_model_that_continues_texts(self):
        self.server.models = ["stories"]
        self.open()
        until(lambda: "How does it begin?" in self.text("#empty h2"), "the welcome")
        say = lambda text: Answer(*(b"data: " + json.dumps({"choices": [{"index": 0, "text": part, "finish_reason": None}]}).encode() + b"\n\n" for part in text),
                                  b"data: [DONE]\n\n")
        self.ask("Once", say([" upon", " a time."]))
        self.ask("A dog", say([" ran."]))
        self.assertEqual(self.text("article .body"), ["Once", "upon a time.", "A dog", "ran."])
        self.assertEqual(self.server.requests[1], {"model": "stories", "stream": True, "stream_options": {"include_usage": True},
                                                   "prompt": "Once upon a time.\nA dog", "max_tokens": 1024})

    def test_stop_keeps_what_was_written(self):
        for how in ("escape", "button"):
            with self.subTest(how=how):
                self.browser.press("New conversation")
                answer = Answer(halves("first ", "second")[0], threading.Event())
                self.ask("hello")
                self.server.answers.put(answer)
                until(lambda: self.text("article.assistant .markdown") == ["first"], "the first words")
                self.browser.keys("escape") if how == "escape" else self.browser.press("Stop")
                self.idle()
                self.assertTrue(answer.left.wait(TIMEOUT), "the request was not broken off")
                self.assertRegex(self.text("footer .quiet")[0], "stopped$")
                self.assertEqual(self.text(".wrong"), [])

    def test_enter_and_shift_enter(self):
        self.browser.type("#text", "one")
        self.browser.keys("shift", "enter")
        self.browser.type("#text", "two")
        self.assertEqual(self.js("return document.querySelector('#text').value"), "one\ntwo")
        self.ask("", Answer.text("fine"))
        self.assertEqual(self.server.requests[0]["messages"], [{"role": "user", "content": "one\ntwo"}])
        self.assertEqual(self.focus(), "text")

    def test_edit_asks_again(self):
        self.ask("one", Answer.text("two"))
        self.ask("three", Answer.text("four"))
        self.browser.press("Edit", "article.user")
        self.browser.keys("control", "a")
        self.server.answers.put(Answer.text("zwei"))
        self.browser.keys("e"), self.browser.keys("enter")
        self.idle()
        self.assertEqual(self.text("article .body"), ["e", "zwei"])
        self.assertEqual(self.server.requests[-1]["messages"], [{"role": "user", "content": "e"}])
        self.browser.press("Undo")
        self.assertEqual(self.text("article .body"), ["one", "two", "three", "four"])

    def test_regenerate(self):
        self.ask("one", Answer.text("two"))
        self.server.answers.put(Answer.text("zwei"))
        self.browser.press("Regenerate")
        until(lambda: self.text("article .body") == ["one", "zwei"], "the new answer")
        self.assertEqual(self.server.requests[0], self.server.requests[1])

    def test_thinking_is_collapsed(self):
        kinds = {"tags": Answer.text("<think>let me see</think>\n\nForty-two.", size=1),
                 "field": Answer.text("Forty-two.", reasoning="let me see"),
                 "tag of the template": Answer.text("let me see\n</think>\n\nForty-two.")}
        for kind, answer in kinds.items():
            with self.subTest(kind=kind):
                self.browser.press("New conversation")
                self.ask("six by nine", answer)
                self.assertEqual(self.text("article.assistant .markdown"), ["Forty-two."])
                self.assertEqual(self.js("const d = document.querySelector('details.thinking'); return [d.open, d.hidden, d.lastChild.textContent]"), [False, False, "let me see"])


class Failing(Case):
    def test_errors_are_shown_and_retried(self):
        failures = {
            "429": (Answer.error(429, "Too many requests", Retry_After="3"), "Too many requests (HTTP 429, try again in 3 s)"),
            "400": (Answer.error(400, "The prompt has 5000 tokens, the context 4096"), "The prompt has 5000 tokens, the context 4096 (HTTP 400)"),
            "500": (Answer(b"<html><script>hacked = 1</script>", status=500), "<html><script>hacked = 1</script> (HTTP 500)"),
            "in the stream": (Answer(event({"content": "part"}), b'data: {"error": {"message": "out of pages"}}\n\n'), "out of pages"),
            "no end": (Answer(event({"content": "part"})), "The connection ended before the answer did."),
            "no event": (Answer(b"data: {broken\n\n"), "The server sent something that is not an event of a chat."),
        }
        for name, (answer, message) in failures.items():
            with self.subTest(name=name):
                self.browser.press("New conversation")
                self.ask("hello", answer)
                self.assertEqual(self.text(".wrong span"), [message])
                self.assertEqual(self.text("#status"), [message])
                self.server.answers.put(Answer.text("better"))
                self.browser.press("Retry")
                until(lambda: self.text("article .body") == ["hello", "better"], "the second answer")
                self.assertEqual(self.text(".wrong"), [])

    def test_after_a_failure_sides_still_take_turns(self):
        self.ask("one", Answer.error(500, "broken"))
        self.ask("two", Answer.text("fine"))
        self.assertEqual(self.server.requests[-1]["messages"], [{"role": "user", "content": "one\n\ntwo"}])

    def test_server_that_went_away(self):
        self.js("window.fetch = () => Promise.reject(new TypeError('Failed to fetch'))")
        self.ask("hello")
        self.idle()
        self.assertEqual(self.text(".wrong span"), ["The server cannot be reached. Is it running?"])

    def test_key(self):
        self.server.key = "secret"
        self.open()
        until(lambda: self.js("return !document.querySelector('#key').hidden"), "the field for the key")
        self.ask("hello")
        self.idle()
        self.assertEqual(self.text(".wrong span"), ["Incorrect API key provided (HTTP 401)"])
        self.server.answers.put(Answer.text("welcome"))
        self.browser.type("#key-text", "secret")
        self.browser.keys("enter")
        until(lambda: self.text("article .body") == ["hello", "welcome"], "the answer")
        self.assertEqual(self.js("return [document.querySelector('#key').hidden, JSON.stringify(localStorage).includes('secret')]"), [True, False])
        self.server.key = None


class Markdown(Case):
    def html(self, text, **options):
        """The page's rendering. It must not depend on the pieces in which the text came."""
        whole = self.js("return document.querySelector(arguments[0]).innerHTML", self.answer(text, step=max(1, len(text))))
        pieces = self.js("""const root = document.createElement('div'), grown = new Markdown(root);
            for (let end = 1; end <= arguments[0].length; end++) grown.update(arguments[0].slice(0, end)); return root.innerHTML""", text)
        self.assertEqual(pieces, whole)
        return whole

    def test_blocks_and_emphasis(self):
        cases = {
            "# One\n### Three #\ntext": "<h3>One</h3><h5>Three</h5><p>text</p>",
            "a **b** *c* ***d*** ~~e~~ `f*g*` __h__ _i_": "<p>a <strong>b</strong> <em>c</em> <strong><em>d</em></strong> <del>e</del> <code>f*g*</code> <strong>h</strong> <em>i</em></p>",
            "2 * 3 * 4, snake_case_name, **open, \\*x\\*, ``a`b``": "<p>2 * 3 * 4, snake_case_name, **open, *x*, <code>a`b</code></p>",
            "**a *b*** and *a **b** c*": "<p><strong>a <em>b</em></strong> and <em>a <strong>b</strong> c</em></p>",
            "one\ntwo\n\nthree": "<p>one<br>two</p><p>three</p>",
            "> q\n> r\n\n---": "<blockquote><p>q<br>r</p></blockquote><hr>",
            "- a\n  - b\n\n    more\n- [x] c": "<ul><li><p>a</p><ul><li><p>b</p><p>more</p></li></ul></li><li><p>☑ c</p></li></ul>",
            "3. a\n4. b\n\n5. c": '<ol start="3"><li><p>a</p></li><li><p>b</p></li><li><p>c</p></li></ol>',
            "list:\n- a\n- b\n\nend": "<p>list:</p><ul><li><p>a</p></li><li><p>b</p></li></ul><p>end</p>",
            "| a | b |\n|---|--:|\n| `x\\|y` | 2 |\n\nend": '<div class="table"><table><thead><tr><th scope="col">a</th><th class="right" scope="col">b</th></tr></thead><tbody><tr><td><code>x|y</code></td><td class="right">2</td></tr></tbody></table></div><p>end</p>',
            "see [here](https://e.org/a_(b)) or https://e.org/x_y.": '<p>see <a href="https://e.org/a_(b)" target="_blank" rel="noopener noreferrer nofollow">here</a> or <a href="https://e.org/x_y" target="_blank" rel="noopener noreferrer nofollow">https://e.org/x_y</a>.</p>',
        }
        for text, html in cases.items():
            with self.subTest(text=text):
                self.browser.press("New conversation")
                self.assertEqual(self.html(text), html)

    def test_code_is_kept_and_copied(self):
        code = "def f():\n\treturn '<b>' # **no**\n\n\n  x"
        css = self.answer(f"Here:\n```python\n{code}\n```\ndone")
        self.assertEqual(self.js("return document.querySelector(arguments[0] + ' code').textContent", css), code)
        self.browser.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
        self.browser.press("Copy", css)
        until(lambda: self.text(css + " figcaption button") == ["Copied"], "the copy")
        self.assertEqual(self.js("return navigator.clipboard.readText()"), code)

    def test_hostile_output_is_text(self):
        attacks = [
            "<img src=x onerror='hacked=1'><svg onload=hacked=1><iframe srcdoc='<script>hacked=1</script>'>",
            "<script>hacked=1</script><style>*{display:none}</style><a href='javascript:hacked=1'>x</a>",
            "[x](javascript:hacked=1) [x](JaVaScRiPt:hacked=1) [x](java\tscript:hacked=1) [x](&#106;avascript:hacked=1)",
            "[x](data:text/html,<script>hacked=1</script>) [x](vbscript:x) [x](file:///etc/passwd) [x](//e.org) ![x](https://e.org/spy.png)",
            "```html\n</code></pre><script>hacked=1</script><img src=x onerror=hacked=1>\n```",
            "```\"><img src=x onerror=hacked=1>\ncode\n```",
            "# <img src=x onerror=hacked=1>\n| <img src=x onerror=hacked=1> |\n|---|\n| `<script>hacked=1</script>` |",
            "[<img src=x onerror=hacked=1>](https://e.org/\"onmouseover=\"hacked=1) https://e.org/\"><script>hacked=1</script>",
            "[**[x](javascript:hacked=1)**](https://e.org) <think><img src=x onerror=hacked=1></think>",
            "<think><img src=x onerror=hacked=1></think>answer",
        ]
        for attack in attacks:
            with self.subTest(attack=attack):
                self.browser.press("New conversation")
                self.ask(attack.replace("\n", " ").replace("\t", " "), Answer.text(attack, reasoning="<img src=x onerror=hacked=1>"))
                self.open()  # Once more, out of the storage, with the text as the title too.
                self.browser.click(self.browser.find("#list .open"))
                self.assertGreater(len(self.text("article.assistant")), 0)
                allowed = ("A ARTICLE BLOCKQUOTE BR BUTTON CODE DEL DETAILS DIV EM FIGCAPTION FIGURE FOOTER H2 H3 H4 H5 H6 HR LI OL P PRE "
                           "SPAN STRONG SUMMARY TABLE TBODY TD TH THEAD TR UL").split()
                attributes = "aria-label class dir hidden href rel role scope start tabindex target type".split()
                self.assertEqual(self.js("""return [...document.querySelectorAll('article, article *')].flatMap((node) => [
                    ...(arguments[0].includes(node.tagName) ? [] : [node.tagName]),
                    ...node.getAttributeNames().filter((name) => !arguments[1].includes(name))])""", allowed, attributes), [])
                links = self.js("return [...document.querySelectorAll('article a')].map((a) => [new URL(a.href).origin, a.rel, a.target])")
                self.assertTrue(all(link == ["https://e.org", "noopener noreferrer nofollow", "_blank"] for link in links), links)
                self.assertIsNone(self.js("return window.hacked ?? null"))
                self.assertRaises(AssertionError, self.browser.call, "GET", "/alert/text")

    def test_long_and_awkward_texts_do_not_hang(self):
        """Texts that take quadratic patterns minutes. The browser gives a script 30 s."""
        self.answer("ready")
        size = 200_000
        awkward = ["*", "_", "`", "[", "![", "](", "<", "\\", "#", "- ", "> ", "|", "~~", "*a ", "**a ", "`a ``b ", "[a](", "[a](http://", "http://h", "h",
                   "-\n", "- a\n", "1. a\n\n", "  - a\n", "> > ", "|a|b|\n|-|-|\n", "```\n", "~~~ ", "``` ", "a\n", "\n", "\r", " ", "a " * 50 + "\n\n", "\u2028"]
        for piece in awkward:
            with self.subTest(piece=piece):
                nodes = self.js("""const root = document.createElement('div'), text = arguments[0].repeat(arguments[1] / arguments[0].length);
                    const view = new Markdown(root); view.update(text); view.update(text + 'x'); return root.childNodes.length""", piece, size)
                self.assertGreater(nodes, 0)

    def test_long_answer_comes_whole(self):
        text = "".join(f"Line {number} of **many**.\n\n" for number in range(6000))
        css = self.answer(text, size=4096, step=40)
        self.assertEqual(self.js("return [...document.querySelectorAll(arguments[0] + ' p')].map((p) => p.textContent).join('|')", css),
                         "|".join(f"Line {number} of many." for number in range(6000)))


class Keeping(Case):
    def test_conversations_survive_a_reload(self):
        self.ask("first talk", Answer.text("one"))
        self.browser.press("New conversation")
        self.ask("second talk", Answer.text("two"))
        self.open()
        self.assertEqual(self.text("#list .open"), ["second talk", "first talk"])
        self.browser.press("first talk")
        self.assertEqual(self.text("article .body"), ["first talk", "one"])

    def test_rename_delete_undo(self):
        self.ask("first talk", Answer.text("one"))
        self.browser.clear("#title")
        self.browser.type("#title", "Better name")
        self.browser.keys("enter")
        self.assertEqual(self.text("#list .open"), ["Better name"])
        self.browser.press("Delete Better name")
        self.assertEqual(self.text("#list .open"), [])
        self.browser.press("Undo")
        self.assertEqual(self.text("article .body"), ["first talk", "one"])
        self.browser.press("Delete all")
        self.open()
        self.assertEqual(self.text("#list .open"), [])

    def test_answer_goes_on_in_another_conversation(self):
        go = threading.Event()
        first, second = halves("first ", "second")
        self.ask("hello")
        self.server.answers.put(Answer(first, go, second))
        self.browser.press("New conversation")
        self.assertEqual(self.text("article"), [])
        go.set()
        until(lambda: self.text("#list .open") == ["hello"], "the end of the answer")
        self.browser.press("hello")
        self.assertEqual(self.text("article .body"), ["hello", "first second"])

    def test_export_and_import(self):
        self.ask("first talk", Answer.text("one **two**"))
        self.browser.cdp("Browser.setDownloadBehavior", behavior="allow", downloadPath=self.browser.profile)
        self.browser.press("Export all")
        exported = Path(self.browser.profile) / "trilobite-conversations.json"
        until(exported.exists, "the download")
        self.browser.press("Delete all")
        self.js("document.querySelector('#file').hidden = false")
        self.browser.type("#file", str(exported))
        until(lambda: self.text("article .body") == ["first talk", "one two"], "the import")
        bad = exported.with_name("bad.json")
        bad.write_text('{"conversations": {}}')
        self.browser.type("#file", str(bad))
        until(lambda: self.text("#notice span") == ["bad.json is not an export of this page."], "the notice")


class Reading(Case):
    def scrolled(self):
        return self.js("const l = document.querySelector('#log'); return l.scrollHeight - l.clientHeight - l.scrollTop")

    def test_scrolls_only_at_the_end(self):
        go, end = threading.Event(), threading.Event()
        first, rest = halves("line\n\n" * 100, "line\n\n" * 100)
        cut = rest.index(event({}, "stop"))
        self.ask("hello")
        self.server.answers.put(Answer(first, go, rest[:cut], end, rest[cut:]))
        until(lambda: len(self.text("article p")) > 80, "half of the answer")
        until(lambda: self.scrolled() < 40, "the end in view")
        self.js("document.querySelector('#log').scrollTop = 50")
        until(lambda: self.js("return !document.querySelector('#end').hidden"), "the way back")
        go.set()
        until(lambda: len(self.text("article p")) > 180, "the other half")
        self.assertEqual(self.js("return document.querySelector('#log').scrollTop"), 50)
        end.set()
        self.idle()
        self.assertEqual(self.js("return document.querySelector('#log').scrollTop"), 50)
        self.browser.press("Jump to the end")
        self.assertLess(self.scrolled(), 40)

    def test_a_long_conversation_opens_at_its_end(self):
        for number in range(3):
            self.ask(f"question {number}", Answer.text("line\n\n" * 100))
        self.open()
        self.browser.press("question 0")
        until(lambda: self.scrolled() < 40, "the end in view")
        for _ in range(20):
            self.assertLess(self.scrolled(), 40)

    def test_everything_has_a_name_and_the_keyboard_reaches_it(self):
        self.ask("hello", Answer.text("hi\n```\ncode\n```"))
        nameless = self.js("""return [...document.querySelectorAll('button, input, select, textarea, dialog, nav, section[role]')].filter((node) =>
            !(node.innerText?.trim() || node.ariaLabel || node.labels?.length || node.getAttribute('aria-labelledby') || node.type === 'file')).map((node) => node.outerHTML)""")
        self.assertEqual(nameless, [])
        self.assertEqual(self.js("return [document.querySelector('#status').ariaLive, document.querySelector('#status').textContent.includes('code')]"), ["polite", True])
        reached = set()
        for _ in range(40):
            self.browser.keys("tab")
            reached.add(self.js("const n = document.activeElement; return n.id || n.innerText"))
            self.assertNotEqual(self.js("return getComputedStyle(document.activeElement).outlineStyle + getComputedStyle(document.activeElement.closest('#compose > div') || document.body).borderColor"), "none")
        self.assertLessEqual({"new", "hello", "title", "settings", "theme", "text", "log", "Copy", "Edit", "Regenerate"}, reached)

    def test_phone(self):
        self.ask("hello " * 30, Answer.text("a" * 300 + "\n\n| a | b | c | d | e | f |\n|-|-|-|-|-|-|\n" + "| column " * 6 + "|\n\n```\n" + "x" * 300 + "\n```"))
        for width in (320, 375):
            self.browser.size(width, 640)
            self.assertLessEqual(self.js("return Math.max(document.documentElement.scrollWidth, document.querySelector('#log').scrollWidth)"), width)
            self.assertEqual(self.js("""return [...document.querySelectorAll('main button, main textarea, main select, main input')].filter((node) => node.checkVisibility())
                .filter((node) => !node.closest('article') && (node.getBoundingClientRect().right > innerWidth || node.getBoundingClientRect().left < 0)).map((node) => node.id)"""), [])
        until(lambda: not self.js("return document.querySelector('#new').checkVisibility({visibilityProperty: true})"), "the list out of sight")
        self.browser.press("Conversations")
        self.assertEqual(self.focus(), "new")
        self.browser.keys("escape")
        self.assertEqual(self.focus(), "menu")

    def test_colours(self):
        background = lambda: self.js("return getComputedStyle(document.body).backgroundColor")
        light = background()
        self.browser.scheme("dark")
        dark = background()
        self.assertNotEqual(light, dark)
        self.browser.click(self.browser.find("#theme"))
        self.assertEqual(background(), light)
        self.open()
        self.assertEqual(background(), light)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tests", nargs="*", metavar="TEST", help="such as Talking or Talking.test_edit_asks_again")
    parser.add_argument("--url", help="a running server")
    parser.add_argument("--key", default="", help="its API key")
    parser.add_argument("--shots", type=Path, metavar="DIR", help="take pictures instead")
    parser.add_argument("--rehash", action="store_true", help="renew the policy's hashes instead")
    options = parser.parse_args()
    if options.rehash:
        PAGE.write_text(rehashed(PAGE.read_text()))
        return 0
    if options.tests == ["Policy"]:  # Needs no browser.
        return unittest.main(argv=[sys.argv[0], "Policy"])
    Case.browser = Browser()
    try:
        if options.url:
            Case.url, Case.key = options.url.rstrip("/") + "/", options.key
        else:
            Case.server = Server()
            Case.url = Case.server.url
        if options.shots:
            pictures(Reading(), options.shots)
            return 0
        every = [AnyServer] if options.url else [Policy, Talking, Failing, Markdown, Keeping, Reading]
        loader = unittest.TestLoader()
        names = options.tests or [case.__name__ for case in every]
        suite = loader.loadTestsFromNames(names, sys.modules[__name__])
        result = unittest.TextTestRunner(verbosity=2).run(suite)
        failed = len({getattr(test, "test_case", test).id() for test, _ in result.failures + result.errors})
        print(f"{result.testsRun - failed} passed, {failed} failed")
        return 0 if result.wasSuccessful() else 1
    finally:
        Case.browser.close()


if __name__ == "__main__":
    sys.exit(main())
