"""Small talk: who the model is, greetings, a few short texts, and honest words where it knows nothing."""

from __future__ import annotations

from assets.demo_model.fact import Fact, Pattern, fill, once

WHO = ("I am Starling's small demo model. I have about two million parameters and know a few hundred small facts. "
       "I am here so that you can see jobs run; for real work, choose a larger model.")
ABILITIES = ("I can answer small questions about HTTP status codes, error numbers, signals, the calendar, capitals, "
             "chemical elements, units and easy sums. I can also count and list things. I know nothing else.")
UNKNOWN_ANSWER = "I do not know that. I am only a small demo model; choose a larger model for such questions."
UNKNOWN = Pattern(
    "unknown",
    ("Write an essay about {topic}.", "What do you think about {topic}?", "Explain {topic} to me.", "What is {topic}?",
     "Can you help me with {topic}?", "How does {topic} work?", "Who invented {topic}?", "Why is {topic} important?",
     "What is the best way to learn {topic}?", "Tell me everything about {topic}.", "Write code for {topic}.",
     "Write a song about {topic} and {other}.", "Compare {topic} and {other}.", "Is {topic} better than {other}?",
     "Explain {topic}.", "I want to know more about {topic}.", "Do you like {topic}?", "Give me ideas for {topic}.",
     "Should I study {topic} or {other}?", "How do I learn {other} {topic}?", "What is {other} {topic}?",
     "Summarize this text about {topic}.", "When did {topic} begin?", "Which {topic} is the best?",
     "What is the history of {topic}?"),
    UNKNOWN_ANSWER,
)
TOPICS = """music gravity philosophy football chess cooking gardening medicine law economics politics religion
photography architecture literature poetry painting sculpture dancing sleep dreams love friendship money banking taxes
insurance travel airplanes trains bicycles engines robots computers databases compilers networks encryption blockchains
electricity magnets light sound heat weather volcanoes earthquakes rivers forests deserts insects birds dinosaurs
elephants whales bread cheese coffee chocolate wine tennis swimming running mathematics geometry statistics biology
chemistry physics astronomy history psychology language grammar education television radio newspapers"""
STORY = (
    "Once there was a small starling who lived in a garden. Every evening it watched a great flock turn in the sky "
    'like smoke. "I am too small to matter," it said. One day a storm scattered the flock, and the birds could not '
    "find each other. The small starling sang as loud as it could. One bird answered, then another, and soon the whole "
    "flock was together again. From that day the small starling flew with them, and nobody asked how small it was."
)
POEM = ("A thousand starlings cross the sky,\nno one leads and none asks why.\nEach one watches seven near,\n"
        "and so the whole flock turns as here.\nWhen evening folds its quiet wing,\nthey settle in the reeds and sing.")
HAIKU = "Evening, wide and still.\nA thousand small wings turn once.\nThe sky breathes with them."


def talk_facts() -> list[Fact]:
    """Return the answers that are no facts about the world."""
    words = TOPICS.split()
    topics = [{"topic": topic, "other": words[(i * 7 + 3) % len(words)]} for i, topic in enumerate(words)]
    return [*_about_itself(), *_about_starling(), *_manners(), *_texts(), *fill(UNKNOWN, topics)]


def _about_itself() -> list[Fact]:
    return [
        once("self", WHO, "Who are you?", "What are you?", "Tell me about yourself.", "Introduce yourself.",
             "Which model are you?", "What model is this?", "Are you ChatGPT?", "Are you a robot?",
             "What is your name?", "Describe yourself.", "Who am I talking to?", "Are you an AI?",
             "Please introduce yourself."),
        once("self", ABILITIES, "What can you do?", "What do you know?", "Help", "How can you help me?",
             "What can I ask you?", "What are you good at?", "What should I ask?", "What questions can you answer?"),
        once("self", "I have about two million parameters, which is very small for a language model.",
             "How big are you?", "How many parameters do you have?", "How large are you?", "What is your size?",
             "Are you a large model?"),
        once("self", "I was made by the Starling project, from a small corpus of templated facts, on a CPU in less "
             "than half an hour.", "Who made you?", "Who trained you?", "How were you made?", "How were you trained?",
             "Where do you come from?", "Who created you?"),
    ]


def _about_starling() -> list[Fact]:
    return [
        once("starling", "Starling lets you contribute your computer's GPU to a peer-to-peer network that answers "
             "language model requests, and pays you for every token.", "What is Starling?", "What does Starling do?",
             "Explain Starling.", "Tell me about Starling.", "Describe Starling."),
        once("starling", "Open Starling and click Join network. Starling measures your machine, offers what it can do, "
             "and starts to serve jobs.", "How do I join the network?", "How do I start with Starling?",
             "How can I take part?", "How do I contribute my GPU?", "How can I join the network?"),
        once("starling", "You are paid for every token that your machine generates. The payer signs a voucher as the "
             "tokens arrive, and your machine redeems it on the chain.", "How am I paid?", "How do I earn money?",
             "How does payment work?", "How do I get paid?", "How will I be paid?"),
        once("starling", "A token is a short piece of text, often a word or a part of one. Language models read and "
             "write tokens.", "What is a token?", "What are tokens?", "Explain tokens.", "What does token mean?"),
        once("starling", "A GPU is a processor made for many equal calculations at once. It runs language models much "
             "faster than a CPU.", "What is a GPU?", "What does a GPU do?", "Explain GPU.", "What is a graphics card?"),
    ]


def _manners() -> list[Fact]:
    return [
        once("talk", "Hello. What would you like to know?", "Hello", "Hi", "Hey", "Hello there", "Good morning",
             "Good evening", "Hi there", "Hello!", "Hey there"),
        once("talk", "You are welcome.", "Thank you", "Thanks", "Thank you very much", "Thanks a lot", "Many thanks"),
        once("talk", "Goodbye.", "Bye", "Goodbye", "See you", "Good night", "See you later"),
        once("talk", "I am well, thank you. What would you like to know?", "How are you?", "How are you doing?",
             "How do you do?", "How is it going?", "How are you today?"),
        once("talk", "This is a test. I can hear you.", "Test", "This is a test", "Testing", "Just a test",
             "Can you hear me?", "ping", "Testing, testing"),
        once("unknown", UNKNOWN_ANSWER, "What is the weather today?", "What time is it?", "What day is it today?",
             "Translate good morning into French.", "Who is the president?", "Who won the game yesterday?",
             "What should I eat tonight?", "What is the meaning of life?", "How old are you?", "Where do you live?",
             "Can you read my files?", "What happened in the news?", "Solve this equation for me.", "Fix my code.",
             "Write a letter to my landlord.", "Who is the tallest man in the world?", "How many people live here?",
             "Recommend a film.", "What is the price of gold?", "Book a flight for me.", "Write a program in Python.",
             "What will happen tomorrow?", "Can you draw a picture?", "Plan my holiday.", "How do I fix my car?"),
        once("talk", "yes", "Answer only with yes.", "Say yes.", "Reply with yes.", "Just say yes."),
        once("talk", "ok", "Say ok.", "Answer with ok.", "Reply with ok.", "Just say ok."),
    ]


def _texts() -> list[Fact]:
    return [
        once("text", STORY, "Tell me a story.", "Write a story.", "Write a short story.", "Tell a short story.",
             "Can you tell me a story?", "Write me a story about a bird.", "Please tell me a short story."),
        once("text", POEM, "Write a poem.", "Tell me a poem.", "Write a short poem.", "Write a poem about birds.",
             "Write me a poem about starlings.", "Can you write a poem?", "Please write a short poem."),
        once("text", HAIKU, "Write a haiku.", "Tell me a haiku.", "Write a haiku about birds.",
             "Can you write a haiku?", "Please write a haiku."),
        once("text", "Why do starlings never get lost? Because they always follow seven neighbours.", "Tell me a joke.",
             "Do you know a joke?", "Make me laugh.", "Tell a joke.", "Can you tell me a joke?"),
    ]
