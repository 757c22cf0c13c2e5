"""A stranger's chat template is applied, and can do nothing else."""

from __future__ import annotations

import sys
import time

import pytest

from core.job import ChatMessage
from core.runtimes.chat_template import ChatTemplate, TemplateBroken, TemplateRefused

TURNS = (ChatMessage("system", "Be brief."), ChatMessage("user", 'Say "hi".'))


def test_roles_and_tokens_are_written_as_the_template_says() -> None:
    source = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m['content'] | tojson }}\n{% endfor %}"
    source += "{% if add_generation_prompt %}[assistant] {% endif %}"
    text = ChatTemplate(source, bos="<s>", eos="</s>").render(TURNS)
    assert text == '<s>[system] "Be brief."\n[user] "Say \\"hi\\"."\n[assistant] '


def test_a_template_can_refuse_with_its_own_words() -> None:
    template = ChatTemplate("{{ raise_exception('No system role') }}", bos="", eos="")
    with pytest.raises(TemplateRefused, match="No system role"):
        template.render(TURNS)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update(role='system') }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ '{0.__class__}'.format(1) }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    with pytest.raises(TemplateBroken):
        ChatTemplate(source, bos="", eos="").render(TURNS)


def test_what_lies_outside_is_not_even_there() -> None:
    for source in ("{{ raise_exception.__globals__ }}", "{{ strftime_now.__self__ }}", "{{ ''|attr('__class__') }}"):
        assert ChatTemplate(source, bos="", eos="").render(TURNS) == ""


GROWING = "{%% set ns = namespace(x=%s) %%}{%% for i in range(64) %%}{%% set ns.x = %s %%}{%% endfor %%}{{ ns.x%s }}"


@pytest.mark.parametrize(
    "source",
    [
        "{% for i in range(10**9) %}x{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{{ 'a' * 10**9 }}",
        "{{ (10**9 * [0]) | length }}",
        "{% if 'a' * 5000000000 %}{% endif %}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ 1.5 | round(10**9, 'ceil') }}",
        "{{ '%1000000000d' % 1 }}",
        "{{ '{:>1000000000}'.format(1) }}",
        "{{ 'a'.center(10**9) }}",
        "{{ [1] | slice(10**9) | list }}",
        "{% set s = 'a' * 4000000 %}{% for i in range(99999) %}{% set x = s.find('b') %}{% endfor %}",
        GROWING % ("'aa'", "ns.x ~ ns.x", "|length"),
        GROWING % ("'aa'", "ns.x + ns.x", "|length"),
        GROWING % ("'aa'", "ns.x.replace('a', 'aa')", "|length"),
        GROWING % ("'aa'", "ns.x|replace('a', 'aa')", "|length"),
        GROWING % ("'aa'", "'-'.join([ns.x, ns.x])", "|length"),
        GROWING % ("'aa'", "[ns.x, ns.x]|join", "|length"),
        GROWING % ("[1]", "[ns.x, ns.x]", ""),
        GROWING % ("[1]", "{'a': ns.x, 'b': ns.x}", "|tojson"),
        GROWING % ("[1]", "(ns.x, ns.x)", " == 1"),
        GROWING % ("3", "ns.x * ns.x", ""),
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{% if 1 %}" * 5000 + "{% endif %}" * 5000,
        "{{ 1" + "+1" * 60000 + " }}",
    ],
)
def test_a_template_bomb_is_broken_soon(source: str) -> None:
    began = time.process_time()
    with pytest.raises(TemplateBroken):
        ChatTemplate(source, bos="", eos="").render(TURNS)
    assert time.process_time() - began < 5


def test_a_broken_template_says_why_without_a_message() -> None:
    with pytest.raises(TemplateBroken, match="^it computes more than a template needs$"):
        ChatTemplate("{{ messages[0].content * 10**9 }}", bos="", eos="").render(TURNS)
    with pytest.raises(TemplateBroken, match="^it reaches for what"):
        ChatTemplate("{{ messages.pop() }}", bos="", eos="").render(TURNS)


def test_what_honest_templates_do_is_allowed() -> None:
    source = (
        "{% set ns = namespace(system='') %}{% set turns = messages[1:] %}"
        "{% if messages[0]['role'] == 'system' %}{% set ns.system = messages[0].content | trim %}{% endif %}"
        "{% for m in turns if m.role in ['user', 'assistant'] %}{{ loop.index0 ~ ':' ~ m.role.upper() + ' ' }}"
        "{{ m.content.split('\"')[1].replace('hi', 'ho').strip() }}{{ ' (%s)' % ns.system }}{% endfor %}"
        "{{ ['a', ns.system] | join(', ') }}{{ {'n': turns | length} | tojson }}{{ strftime_now('%Y') | length }}"
    )
    assert ChatTemplate(source, bos="", eos="").render(TURNS) == '0:USER ho (Be brief.)a, Be brief.{"n": 1}4'


def test_what_transformers_adds_to_jinja_is_understood() -> None:
    inside = "{% generation %}{{ '{}: {}'.format(m.role, m.content) }} {% endgeneration %}"
    source = "{% for m in messages %}" + inside + "{% endfor %}"
    assert ChatTemplate(source, bos="", eos="").render(TURNS) == 'system: Be brief. user: Say "hi". '


def test_a_template_that_is_no_jinja_is_broken() -> None:
    with pytest.raises(TemplateBroken):
        ChatTemplate("{% for %}", bos="", eos="")


def test_a_macro_that_calls_itself_ends_before_the_stack_does() -> None:
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(100_000)
    try:
        with pytest.raises(TemplateBroken):
            ChatTemplate("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", bos="", eos="").render(TURNS)
        assert sys.getrecursionlimit() == 100_000
    finally:
        sys.setrecursionlimit(limit)
