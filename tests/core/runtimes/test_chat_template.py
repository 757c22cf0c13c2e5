"""A stranger's chat template is applied, and can do nothing else."""

from __future__ import annotations

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
        "{{ cycler.__init__.__globals__ }}",
        "{% include '/etc/passwd' %}",
        "{% for i in range(10**9) %}x{% endfor %}",
    ],
)
def test_a_template_cannot_leave_its_sandbox(source: str) -> None:
    with pytest.raises(TemplateBroken):
        ChatTemplate(source, bos="", eos="").render(TURNS)


def test_a_template_that_is_no_jinja_is_broken() -> None:
    with pytest.raises(TemplateBroken):
        ChatTemplate("{% for %}", bos="", eos="")
