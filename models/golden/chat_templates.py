"""Writes chat_templates.json into the folder given: conversations as transformers renders them.

The templates are written here in the manner of released models, with the constructs that those use:
loops with `loop.first` and `loop.last`, namespaces, filters, method calls, whitespace control,
`raise_exception` and `tojson`.
"""

import json
import pathlib
import sys

from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = {
    "bitnet": "{% for message in messages %}{% if loop.first %}{{ bos_token }}{% endif %}{% if message['role'] == 'user' %}{{ 'Human: ' + message['content'] + '\\n\\nAssistant: ' + eos_token }}{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}",
    "bitnet-2b": "{% for message in messages %}{{ message['role'] | capitalize + ': ' + message['content'] | trim + '<|eot_id|>' }}{% endfor %}{% if add_generation_prompt %}{{ 'Assistant: ' }}{% endif %}",
    "llama-3": "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "chatml": """{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else %}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or message.role == "assistant" %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "gemma": """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- set first_user_prefix = messages[0]['content'] + '\n\n' -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- endif -%}
    {{ '<end_of_turn>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model\n'}}
{%- endif -%}
""",
    "blocks": """{% set ns = namespace(system='none') %}
{% for message in messages %}
  {% if message.role == 'system' %}
    {% set ns.system = message.content.strip() %}
  {% endif %}
{% endfor %}
System is {{ ns.system }}.
{% for message in messages %}
  {% if message['role'] not in ['system'] %}
{{ loop.index }}. {{ message.role.upper() }}: {{ message | tojson }}{{ eos_token if loop.last }}
  {% endif %}
{% endfor %}
{{ messages | length }} {{ messages[-1].content.split(' ')[0] }} {{ messages[0].content.startswith('Be') }}
""",
}

CONVERSATIONS = [
    [{"role": "user", "content": "Hello there"}],
    [
        {"role": "system", "content": "  Be brief & kind. "},
        {"role": "user", "content": " What's \"1 < 2\"? \n"},
        {"role": "assistant", "content": "True.\nÜber <b>所</b> 🦀 "},
        {"role": "user", "content": "Thanks"},
    ],
    [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": "No"}],
]


def render(template, messages, add_generation_prompt):
    try:
        rendered, _ = render_jinja_template(
            conversations=[messages],
            chat_template=template,
            add_generation_prompt=add_generation_prompt,
            bos_token="<s>",
            eos_token="</s>",
        )
        return rendered[0]
    except Exception:
        return None


cases = [
    {"name": name, "template": template, "messages": messages, "add_generation_prompt": prompt,
     "rendered": render(template, messages, prompt)}
    for name, template in TEMPLATES.items()
    for messages in CONVERSATIONS
    for prompt in (False, True)
]
out = pathlib.Path(sys.argv[1]) / "chat_templates.json"
out.write_text(json.dumps(cases, ensure_ascii=False, indent=1) + "\n")
print(len(cases), "cases,", sum(case["rendered"] is None for case in cases), "refused")
