"""Writes chat_templates.json into the folder given: prompts as transformers renders them.

The templates in chat_templates/ are written for this, in the manner of released models, and use what
those use: README.md lists it. Each is rendered with every conversation. Those of jinja_expressions.py
show one thing each. A template that transformers refuses to render has no text.
"""

import copy
import datetime
import json
import pathlib
import sys

import transformers
import transformers.utils.chat_template_utils as utils

import jinja_expressions

NOW = datetime.datetime(2026, 3, 5, 14, 7, 9)
SPECIAL_TOKENS = {
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "sep_token": "<sep>",
    "pad_token": "<pad>",
    "cls_token": "<cls>",
    "mask_token": "<mask>",
    "image_token": "<image>",
    "additional_special_tokens": ["<one>", "<two>"],
}

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "description": "The weather of a city, now & \"then\".\nIn <any> unit.",
            "parameters": {
                "type": "object",
                "properties": {
                    "city": {"type": "string", "description": "Its name, such as Zürich"},
                    "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                    "days": {"type": "integer", "default": 3},
                    "options": {
                        "type": "object",
                        "properties": {
                            "items": {"type": "array", "items": {"type": "string"}},
                            "least": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                        },
                        "required": ["items"],
                    },
                },
                "required": ["city"],
            },
        },
    },
    {
        "type": "function",
        "function": {"name": "stop", "description": "", "parameters": {"type": "object", "properties": {}}},
    },
]
DOCUMENTS = [
    {"title": "about zebras", "text": "They have stripes.\nAll of them.\n", "year": 1999},
    {"title": "Übung", "text": "macht <den> Meister 🦓", "tags": ["a", None, 1.5]},
]


def message(role, content, **fields):
    return {"role": role, "content": content, **fields}


def call(name, arguments):
    return {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}


CONVERSATIONS = {
    "one question": {"messages": [message("user", "Hello there")]},
    "system message": {
        "messages": [
            message("system", "  Be brief & kind. "),
            message("user", " What's \"1 < 2\"? \n"),
            message("assistant", "True.\nÜber <b>所</b> 🦀 "),
            message("user", "Thanks!"),
        ]
    },
    "an answer last": {
        "messages": [message("user", "Is it?"), message("assistant", "It is\n so ")],
    },
    "tools": {
        "messages": [message("system", "Use tools."), message("user", "Weather?")],
        "tools": TOOLS,
    },
    "tool calls": {
        "messages": [
            message("user", "Weather in Zürich?"),
            message(
                "assistant",
                None,
                tool_calls=[
                    call("get_weather", {"city": "Zürich", "days": 2, "options": {"items": ["a"], "least": None}}),
                    call("stop", "{}"),
                ],
            ),
            message("tool", "{\"degrees\": 20.5}", name="get_weather", tool_call_id="call_1"),
            message("tool", "done", name="stop", tool_call_id="call_2"),
            message("assistant", "It has 20.5 degrees."),
            message("user", "ok"),
        ],
        "tools": TOOLS,
    },
    "documents": {"messages": [message("user", "Tell me of zebras")], "documents": DOCUMENTS},
    "reasoning": {
        "messages": [
            message("user", "a"),
            message("assistant", "<think>\nhm\n</think>\n\nb"),
            message("user", "c"),
            message("assistant", "d", reasoning="because"),
        ],
        "variables": {"enable_thinking": False},
    },
    "parts": {
        "messages": [
            message("user", [{"type": "text", "text": "Look: "}, {"type": "image", "image": "x.png"}]),
            message("assistant", [{"type": "text", "text": "Seen"}]),
        ]
    },
    "an answer first": {"messages": [message("assistant", "I begin"), message("user", "No")]},
    "nothing": {"messages": []},
}
ENDINGS = {
    "answer": {"add_generation_prompt": True},
    "closed": {},
    "open": {"continue_final_message": True},
}


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def normalized(messages):
    """Without what is None, as `apply_chat_template` passes them on since transformers 5.24."""
    return [{name: value for name, value in m.items() if value is not None} for m in messages]


def render(template, conversation, ending):
    variables = {**SPECIAL_TOKENS, **conversation.get("variables", {}), **ENDINGS[ending]}
    try:
        rendered, _ = utils.render_jinja_template(
            conversations=[normalized(copy.deepcopy(conversation["messages"]))],
            tools=conversation.get("tools"),
            documents=conversation.get("documents"),
            chat_template=template,
            **variables,
        )
        return rendered[0]
    except Exception:
        return None


def evaluate(template):
    try:
        # Without its cache and with variables of its own: templates can change lists.
        compiled = utils._cached_compile_jinja_template(template)
        return compiled.render(**copy.deepcopy(jinja_expressions.VARIABLES))
    except Exception:
        return None


utils.datetime = Clock
folder = pathlib.Path(__file__).parent / "chat_templates"
templates = {path.stem: path.read_bytes().decode() for path in sorted(folder.glob("*.jinja"))}
prompts = [
    {"template": name, "conversation": talk, "ending": ending,
     "rendered": render(template, CONVERSATIONS[talk], ending)}
    for name, template in templates.items()
    for talk, conversation in CONVERSATIONS.items()
    for ending in ENDINGS
    # Only an answer can be continued.
    if ending != "open" or [m["role"] for m in conversation["messages"]][-1:] == ["assistant"]
]
expressions = [
    {"template": template, "rendered": evaluate(template)}
    for topic in jinja_expressions.TEMPLATES.values()
    for template in topic
]
golden = {
    "transformers": transformers.__version__,
    "now": NOW.isoformat(),
    "special_tokens": SPECIAL_TOKENS,
    "templates": templates,
    "conversations": CONVERSATIONS,
    "prompts": prompts,
    "variables": jinja_expressions.VARIABLES,
    "expressions": expressions,
}
out = pathlib.Path(sys.argv[1]) / "chat_templates.json"
out.write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")
cases = prompts + expressions
print(len(cases), "cases,", sum(case["rendered"] is None for case in cases), "refused")
