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


QUIZ_NO_PAGE = {
    "en": "Open a page of the course, and ask for a quiz there.",
    "de": "Öffnen Sie eine Seite des Kurses, und fragen Sie dort nach einem Quiz.",
    "es": "Abra una página del curso y pida allí un cuestionario.",
    "fr": "Ouvrez une page du cours, et demandez-y un quiz.",
    "pt": "Abra uma página do curso e peça lá um questionário.",
    "ar": "افتح صفحة من صفحات الدورة، واطلب الاختبار هناك.",
    "hi": "पाठ्यक्रम का कोई पन्ना खोलें, और वहाँ प्रश्नोत्तरी माँगें।",
    "ur": "کورس کا کوئی صفحہ کھولیں، اور وہاں سوالات مانگیں۔",
    "ja": "コースのページを開いてから、クイズを頼んでください。",
    "zh": "请打开课程的一个页面，再要求测验。",
}
"""Where a quiz is wanted, and no page of the course is open."""

QUIZ_THIN = {
    "en": "This page has too little text for a quiz. Try another one.",
    "de": "Diese Seite hat zu wenig Text für ein Quiz. Versuchen Sie es mit einer anderen.",
    "es": "Esta página tiene muy poco texto para un cuestionario. Pruebe con otra.",
    "fr": "Cette page contient trop peu de texte pour un quiz. Essayez-en une autre.",
    "pt": "Esta página tem pouco texto para um questionário. Tente outra.",
    "ar": "في هذه الصفحة نص أقل مما يلزم لاختبار. جرّب صفحة أخرى.",
    "hi": "इस पन्ने पर प्रश्नोत्तरी के लिए बहुत कम पाठ है। कोई दूसरा पन्ना आज़माएँ।",
    "ur": "اس صفحے پر سوالات کے لیے متن بہت کم ہے۔ کوئی دوسرا صفحہ آزمائیں۔",
    "ja": "このページはクイズにするには文章が少なすぎます。別のページで試してください。",
    "zh": "这个页面的内容太少，无法出题。请换一个页面。",
}
"""Where a page makes fewer than three questions."""

QUIZ_SCORE = {
    "en": "{right} of {all} right",
    "de": "{right} von {all} richtig",
    "es": "{right} de {all} correctas",
    "fr": "{right} sur {all} justes",
    "pt": "{right} de {all} certas",
    "ar": "{right} من {all} صحيحة",
    "hi": "{all} में से {right} सही",
    "ur": "{all} میں سے {right} درست",
    "ja": "{all}問中{right}問正解",
    "zh": "{all} 题答对 {right} 题",
}
"""Above a quiz's checked answers."""

QUIZ_RIGHT = {
    "en": "Right.",
    "de": "Richtig.",
    "es": "Correcto.",
    "fr": "Juste.",
    "pt": "Certo.",
    "ar": "صحيح.",
    "hi": "सही।",
    "ur": "درست۔",
    "ja": "正解。",
    "zh": "正确。",
}
"""Before an answer that is."""

QUIZ_WRONG = {
    "en": "Not quite.",
    "de": "Nicht ganz.",
    "es": "No del todo.",
    "fr": "Pas tout à fait.",
    "pt": "Não exatamente.",
    "ar": "ليس تمامًا.",
    "hi": "ठीक ऐसा नहीं।",
    "ur": "ایسا نہیں۔",
    "ja": "惜しい。",
    "zh": "不太对。",
}
"""Before the answer that would have been."""

QUIZ_SKIPPED = {
    "en": "Not answered.",
    "de": "Nicht beantwortet.",
    "es": "Sin respuesta.",
    "fr": "Sans réponse.",
    "pt": "Sem resposta.",
    "ar": "بلا إجابة.",
    "hi": "उत्तर नहीं दिया।",
    "ur": "جواب نہیں دیا گیا۔",
    "ja": "未回答。",
    "zh": "未作答。",
}
"""Before an answer that was not given."""


def in_language(phrase: Mapping[str, str], languages: Iterable[str]) -> str:
    """The phrase in the first of `languages` (tags such as `pt-BR`) that there is one in; else in English."""
    tags = (language.partition("-")[0].lower() for language in languages)
    return next((phrase[tag] for tag in tags if tag in phrase), phrase["en"])
