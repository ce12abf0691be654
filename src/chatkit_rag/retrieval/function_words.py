"""Words that say nothing of what is asked: the engine's stop words, where it has any, are those of written prose."""

# ruff: noqa: RUF001 - words of other scripts

from functools import cache

from chatkit_rag.retrieval.segmentation import words

ASKING = {
    "english": frozenset(
        [
            *("anybody", "anyone", "anything", "arent", "cant", "could", "couldnt", "didnt", "doesnt", "dont"),
            *("explain", "help", "hows", "id", "im", "isnt", "ive", "just", "know", "may", "mean", "might"),
            *("must", "need", "please", "shall", "should", "shouldnt", "somebody", "somehow", "someone"),
            *("something", "tell", "thats", "versus", "vs", "want", "wasnt", "whats", "wheres", "wont"),
            *("would", "wouldnt"),
        ]
    )
}
"""Words by which people ask, and not what they ask about."""

_FUNCTION_WORDS = {
    "urdu": """
        کا کی کے کو سے میں پر نے ہے ہیں تھا تھی تھے ہو ہوں ہوتا ہوتی
        ہوتے گا گی گے اور یا یہ وہ اس ان جو جس جن کہ تو بھی ہی
        نہیں نہ ایک کیا کیوں کیسے کب کہاں کون کس کتنا کتنے کتنی
        کونسا کونسی لیے لئے تک ساتھ اپنا اپنے اپنی ہم آپ میرا مجھے
        کر کرنا کرتا کرتی کرتے کریں جاتا جاتی جاتے جب تب اگر
        مگر لیکن پھر بتائیں بتاؤ براہ کرم وضاحت چاہیے سکتا سکتے سکتی
        رہا رہی رہے والا والے والی گیا گئی گئے
    """,
    "hindi": """
        का की के को से में पर ने है हैं था थी थे हो हूँ होता होती
        होते गा गी गे और या यह वह ये वे इस उस इन उन जो जिस कि तो
        भी ही नहीं न एक क्या क्यों कैसे कब कहाँ कौन किस कितना
        कितने कितनी लिए तक साथ अपना अपने अपनी हम आप मेरा मुझे कर करना
        करता करती करते करें जाता जाती जाते जब तब अगर मगर
        लेकिन फिर बताइए बताओ बताएं कृपया समझाइए चाहिए सकता सकते सकती रहा
        रही रहे वाला वाले वाली गया गई गए किया द्वारा
    """,
    "persian": """
        و در به از که این آن را با برای است هست هستند بود شد
        شود می یک تا هم یا اما اگر چه چرا چگونه چطور کجا کی کدام چیست
        آیا لطفا ها های من ما شما او
    """,
    "korean": """
        무엇인가요 무엇입니까 어떻게 왜 언제 어디 무엇 은 는 이 가 을 를 란 에서 하는 하나요 그리고 또는 설명해 주세요
    """,
}


@cache
def function_words(language: str) -> frozenset[str]:
    """Stop words, and words by which people ask, of languages for which the engine has none or only those of prose."""
    # Not when this is imported, which would take three times as long.
    return frozenset(words(_FUNCTION_WORDS.get(language, "")))


BETWEEN = {
    "chinese": (
        *(
            "有什么用",
            "为什么",
            "為什麼",
            "什么",
            "什麼",
            "怎么",
            "怎麼",
            "如何",
            "怎样",
            "怎樣",
            "哪些",
            "哪个",
            "多少",
            "请问",
            "解释",
        ),
        *("多长时间", "要多久", "多久", "是否", "的", "了", "吗", "嗎", "呢", "吧", "是"),
    ),
    "japanese": (
        *("でしょうか", "どのように", "どうやって", "どのくらい", "ていますか", "えてください", "ください", "について"),
        *(
            "しました",
            "している",
            "ている",
            "ています",
            "しますか",
            "できますか",
            "ますか",
            "ですか",
            "として",
            "という",
        ),
        *("します", "ました", "ません", "ます", "です", "する", "した", "して", "この", "その", "これ", "それ", "から"),
        *(
            "まで",
            "など",
            "とは",
            "には",
            "では",
            "のは",
            "のが",
            "なぜ",
            "どう",
            "どこ",
            "いつ",
            "こと",
            "ため",
            "よう",
        ),
        *("何", "教"),
    ),
    "thai": ("อย่างไร", "เท่าไร", "เท่าไหร่", "คืออะไร", "อะไร", "ทำไม", "ที่ไหน", "เมื่อไร", "ของ", "และ", "หรือ", "คือ"),
}
"""What stands between words, in a language that puts no spaces there."""
