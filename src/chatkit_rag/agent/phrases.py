"""What the chat itself says, in the reader's language. Pure.

Answers are in the language of the question, which the model sees to. These are the few sentences that no model writes.
"""

# ruff: noqa: RUF001 - words of other scripts

from collections.abc import Iterable, Mapping

NOT_COVERED = {
    "en": "The course does not cover this, as far as I can find. Try other words, or ask about a topic of the course.",
    "de": "Soweit ich finde, behandelt der Kurs das nicht. Versuchen Sie es mit anderen Worten, oder fragen Sie nach "
    "einem Thema des Kurses.",
    "es": "Hasta donde puedo ver, el curso no trata esto. Pruebe con otras palabras o pregunte por un tema del curso.",
    "fr": "Autant que je puisse voir, le cours n'aborde pas ce sujet. Essayez d'autres mots, ou posez une question sur "
    "un thème du cours.",
    "pt": "Pelo que encontro, o curso não trata disso. Tente outras palavras ou pergunte sobre um tema do curso.",
    "ar": "على حد ما أجد، لا تتناول الدورة هذا الموضوع. جرّب كلمات أخرى، أو اسأل عن موضوع من موضوعاتها.",
    "hi": "जहाँ तक मुझे मिलता है, यह पाठ्यक्रम में नहीं है। दूसरे शब्दों में पूछें, या पाठ्यक्रम के किसी विषय के बारे में पूछें।",
    "ur": "جہاں تک مجھے ملتا ہے، یہ کورس میں شامل نہیں ہے۔ دوسرے الفاظ میں پوچھیں، "
    "یا کورس کے کسی موضوع کے بارے میں پوچھیں۔",
    "ja": "見つけられる限り、このコースでは扱われていません。別の言葉で試すか、コースの内容について質問してください。",
    "zh": "据我所查，本课程没有涉及这个问题。请换个说法，或者就课程中的内容提问。",
}
"""The answer where the course does not have it."""

REFUSED = {
    "en": "I cannot help with that here. Please ask about the course.",
    "de": "Dabei kann ich hier nicht helfen. Bitte fragen Sie nach dem Kurs.",
    "es": "No puedo ayudar con eso aquí. Por favor, pregunte sobre el curso.",
    "fr": "Je ne peux pas vous aider pour cela ici. Posez plutôt une question sur le cours.",
    "pt": "Não posso ajudar com isso aqui. Por favor, pergunte sobre o curso.",
    "ar": "لا أستطيع المساعدة في هذا هنا. من فضلك اسأل عن الدورة.",
    "hi": "मैं यहाँ इसमें मदद नहीं कर सकता। कृपया पाठ्यक्रम के बारे में पूछें।",
    "ur": "میں یہاں اس میں مدد نہیں کر سکتا۔ براہ کرم کورس کے بارے میں پوچھیں۔",
    "ja": "ここではお手伝いできません。コースについて質問してください。",
    "zh": "我在这里无法帮您处理这个问题。请就课程提问。",
}
"""The answer where a guardrail of the site's has stopped one."""

SEARCHING = {
    "en": "Searching the course …",
    "de": "Suche im Kurs …",
    "es": "Buscando en el curso …",
    "fr": "Recherche dans le cours …",
    "pt": "Pesquisando no curso …",
    "ar": "جارٍ البحث في الدورة …",
    "hi": "पाठ्यक्रम में खोज रहा हूँ …",
    "ur": "کورس میں تلاش جاری ہے …",
    "ja": "コースを検索しています…",
    "zh": "正在搜索课程…",
}
"""While it is searched."""

READING = {
    "en": "Reading the course's pages …",
    "de": "Lese die Seiten des Kurses …",
    "es": "Leyendo las páginas del curso …",
    "fr": "Lecture des pages du cours …",
    "pt": "Lendo as páginas do curso …",
    "ar": "جارٍ قراءة صفحات الدورة …",
    "hi": "पाठ्यक्रम के पन्ने पढ़ रहा हूँ …",
    "ur": "کورس کے صفحات پڑھے جا رہے ہیں …",
    "ja": "コースのページを読んでいます…",
    "zh": "正在阅读课程页面…",
}
"""While a page or the outline is read."""


def in_language(phrase: Mapping[str, str], languages: Iterable[str]) -> str:
    """The phrase in the first of `languages` (tags such as `pt-BR`) that there is one in; else in English."""
    tags = (language.partition("-")[0].lower() for language in languages)
    return next((phrase[tag] for tag in tags if tag in phrase), phrase["en"])
