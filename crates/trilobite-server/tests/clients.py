#!/usr/bin/env python3
"""Runs clients of OpenAI's protocol against `trilobite serve` with the built-in model.

    pip install openai litellm langchain-openai jsonschema
    python3 crates/trilobite-server/tests/clients.py target/release/trilobite

The clients are used as their manuals say: chat, streaming, log-probabilities, a JSON schema, and tools.
"""

import json
import re
import subprocess
import sys
from contextlib import contextmanager

import jsonschema
import litellm
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI, OpenAI as CompletionOpenAI
from openai import BadRequestError, OpenAI
from pydantic import BaseModel, Field

NAME = "tinystories"
QUESTION = [{"role": "user", "content": "Tell me about a dog."}]
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer", "minimum": 0, "maximum": 20}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "unit": {"type": "string", "enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather of a city", "parameters": PARAMETERS}}
TOKENS = 400  # Enough for every answer that a schema bounds: a gap of JSON has at most 32 characters.


class Dog(BaseModel):
    """A class from which the client makes a schema."""

    name: str = Field(max_length=12)
    age: int = Field(ge=0, le=20)


@contextmanager
def served(binary):
    command = [binary, "serve", "--port", "0", "--chat-template", "chatml"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        yield re.search(r"http://\S+", server.stdout.readline()).group()
    finally:
        server.terminate()
        assert server.wait(30) == 0, "the server ends without an error"


def fits(text, schema=SCHEMA):
    jsonschema.validate(json.loads(text), schema)


def check_call(call):
    assert call.function.name == "weather", call
    fits(call.function.arguments, PARAMETERS)


def openai_client(base):
    client = OpenAI(base_url=base, api_key="none", max_retries=0)
    assert NAME in [model.id for model in client.models.list()]

    def chat(**more):
        return client.chat.completions.create(model=NAME, messages=QUESTION, temperature=0, max_tokens=TOKENS, **more)

    answer = chat()
    text = answer.choices[0].message.content
    assert text and answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens

    parts = list(chat(stream=True, stream_options={"include_usage": True}))
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == text
    assert parts[-1].usage.total_tokens == answer.usage.total_tokens

    logprobs = chat(logprobs=True, top_logprobs=3).choices[0].logprobs.content
    assert "".join(token.token for token in logprobs).startswith(text[:20])
    assert all(len(token.top_logprobs) == 3 and token.logprob <= 0 for token in logprobs)

    schema = {"type": "json_schema", "json_schema": {"name": "dog", "schema": SCHEMA, "strict": True}}
    fits(chat(response_format=schema).choices[0].message.content)
    parsed = client.chat.completions.parse(model=NAME, messages=QUESTION, response_format=Dog, max_tokens=TOKENS, temperature=0)
    assert isinstance(parsed.choices[0].message.parsed, Dog)

    answer = chat(tools=[TOOL], tool_choice="required").choices[0]
    assert answer.finish_reason == "tool_calls", answer
    check_call(answer.message.tool_calls[0])
    named = {"type": "function", "function": {"name": "weather"}}
    with client.chat.completions.stream(model=NAME, messages=QUESTION, tools=[TOOL], tool_choice=named, temperature=0, max_tokens=TOKENS) as stream:
        call = stream.get_final_completion().choices[0].message.tool_calls[0]
    assert call.function.arguments == answer.message.tool_calls[0].function.arguments
    result = {"role": "tool", "tool_call_id": answer.message.tool_calls[0].id, "content": "sunny"}
    messages = [*QUESTION, answer.message.model_dump(exclude_none=True), result]
    assert client.chat.completions.create(model=NAME, messages=messages, tools=[TOOL], max_tokens=8).choices[0].message is not None

    completion = client.completions.create(model=NAME, prompt="Once upon a time", max_tokens=4, logprobs=1, echo=True, temperature=0)
    assert completion.choices[0].text.startswith("Once upon a time") and completion.choices[0].logprobs.token_logprobs[0] is None
    try:
        client.chat.completions.create(model=NAME, messages=QUESTION, temperature=9)
    except BadRequestError as error:
        assert "temperature" in error.message
    else:
        raise AssertionError("a wrong temperature is an error")


def litellm_client(base):
    def chat(**more):
        return litellm.completion(model=f"openai/{NAME}", api_base=base, api_key="none", messages=QUESTION, max_tokens=TOKENS, temperature=0, **more)

    text = chat().choices[0].message.content
    assert text
    assert "".join(part.choices[0].delta.content or "" for part in chat(stream=True)) == text
    schema = {"type": "json_schema", "json_schema": {"name": "dog", "schema": SCHEMA, "strict": True}}
    fits(chat(response_format=schema).choices[0].message.content)
    check_call(chat(tools=[TOOL], tool_choice="required").choices[0].message.tool_calls[0])


def langchain_client(base):
    model = ChatOpenAI(model=NAME, base_url=base, api_key="none", max_tokens=TOKENS, temperature=0, max_retries=0)
    question = [HumanMessage(QUESTION[0]["content"])]
    text = model.invoke(question).content
    assert text and "".join(part.content for part in model.stream(question)) == text
    fits(json.dumps(model.with_structured_output(SCHEMA | {"title": "dog"}, method="json_schema").invoke(question)))
    calls = model.bind_tools([TOOL], tool_choice="weather").invoke(question).tool_calls
    assert calls[0]["name"] == "weather"
    jsonschema.validate(calls[0]["args"], PARAMETERS)
    completion = CompletionOpenAI(model=NAME, base_url=base, api_key="none", max_tokens=8, max_retries=0)
    assert completion.invoke("Once upon a time")


def main():
    with served(sys.argv[1]) as address:
        for client in (openai_client, litellm_client, langchain_client):
            client(address + "/v1")
            print(client.__name__, "passed")


if __name__ == "__main__":
    main()
