"""Courses in other languages than English: what is asked is found, also misspelled, also by the names of code."""

# ruff: noqa: RUF001 - other scripts are what this is about

import uuid
from pathlib import Path
from typing import NamedTuple

import pytest

from chatkit_rag.documents import Passage
from chatkit_rag.errors import ConfigurationError
from chatkit_rag.retrieval.analysis import Analyser
from chatkit_rag.retrieval.edge import EdgeIndex
from chatkit_rag.retrieval.languages import STEMMED, find_language
from chatkit_rag.retrieval.retriever import Retriever

pytestmark = pytest.mark.anyio


class Course(NamedTuple):
    """Passages by their headings, and questions by the heading that answers them."""

    passages: dict[str, str]
    questions: dict[str, str]


COURSES = {
    "ur": Course(
        {
            "نوڈز": "ایک نوڈ روبوٹ کا پروگرام ہے۔ نوڈز آپس میں پیغام بھیجتے ہیں۔ rclpy.spin نوڈ کو چلاتا رہتا ہے۔",
            "بیٹری": "روبوٹ کی بیٹری لیتھیم سے بنتی ہے۔ اسے چارج کرنے میں دو گھنٹے لگتے ہیں۔",
            "توازن": "چلتے وقت روبوٹ اپنا توازن برقرار رکھتا ہے، ورنہ وہ گر جاتا ہے۔ قدموں کا فاصلہ اہم ہے۔",
            "کیمرہ": "کیمرہ تصویریں لیتا ہے، اور نیٹ ورک ان میں چیزیں پہچانتا ہے۔ robots کیمرے سے دیکھتے ہیں۔",
        },
        {
            "نوڈ کیا ہے؟": "نوڈز",
            "بیٹری چارج کرنے میں کتنا وقت لگتا ہے؟": "بیٹری",
            "بيٹري کس سے بنتي هے؟": "بیٹری",  # the Arabic keyboard's letters
            "روبوٹ چلتے وقت تواذن کیسے رکھتا ہے؟": "توازن",  # misspelled
            "کیمرہ کیا کرتا ہے": "کیمرہ",
            "robot": "کیمرہ",
            "rclpy.spin کیا کرتا ہے؟": "نوڈز",
        },
    ),
    "hindi": Course(
        {
            "नोड": "नोड रोबोट का एक छोटा प्रोग्राम है। नोड आपस में संदेश भेजते हैं।",
            "बैटरी": "रोबोट की बैटरी लिथियम से बनती है। इसे चार्ज करने में दो घंटे लगते हैं।",
            "संतुलन": "चलते समय रोबोट अपना संतुलन बनाए रखता है, नहीं तो वह गिर जाता है।",
            "हिन्दी भाषा": "रोबोट हिन्दी में भी बोलता है। आवाज़ एक स्पीकर से आती है।",
        },
        {
            "नोड क्या है?": "नोड",
            "बैटरी चार्ज करने में कितना समय लगता है?": "बैटरी",
            "रोबोट संतुलान कैसे रखता है?": "संतुलन",  # misspelled
            "क्या रोबोट हिंदी बोलता है?": "हिन्दी भाषा",  # the other way to write the nasal
            "आवाज कहाँ से आती है": "हिन्दी भाषा",  # without the dot
        },
    ),
    "zh": Course(
        {
            "节点": "节点是机器人系统中的一个小程序。节点之间通过话题交换消息。用 rclpy.spin 让节点一直运行。",
            "电池": "机器人的电池由锂制成，充电需要两个小时。",
            "平衡": "行走时机器人必须保持平衡，否则会摔倒。步幅越大越不稳定。",
            "熵": "熵衡量一个分布有多不确定。均匀分布的熵最大。",
        },
        {
            "什么是节点？": "节点",
            "电池充电要多久？": "电池",
            "机器人怎么保持平衡": "平衡",
            "机器仁如何保恃平衡": "平衡",  # two characters that look or sound alike
            "熵是什么": "熵",
            "rclpy.spin 有什么用": "节点",
        },
    ),
    "japanese": Course(
        {
            "ノード": "ノードはロボットの小さなプログラムです。ノードはトピックでメッセージを交換します。",
            "電池": "ロボットの電池はリチウムでできています。充電には二時間かかります。",
            "歩行": "歩くとき、ロボットはバランスを保ちます。そうしないと倒れます。",
            "カメラ": "カメラは写真を撮り、ネットワークが物体を認識します。",
        },
        {
            "ノードとは何ですか？": "ノード",
            "電池の充電にはどのくらいかかりますか": "電池",
            "ロボットはどうやって歩いていますか": "歩行",  # another form of the verb
            "ｶﾒﾗは何を認識しますか": "カメラ",  # half width
            "バランスを教えてください": "歩行",
        },
    ),
    "de": Course(
        {
            "Knoten": "Ein Knoten ist ein kleines Programm des Roboters. Knoten tauschen Nachrichten über Themen aus.",
            "Akku": "Der Akku des Roboters besteht aus Lithium. Ihn zu laden dauert zwei Stunden.",
            "Gelenke": "Gelenke verbinden die Glieder. Die Größe eines Winkels begrenzt, was der Arm erreicht.",
            "Lösung": "Die Lösung der Gleichung liefert die Geschwindigkeit der Räder.",
        },
        {
            "Was sind Knoten?": "Knoten",
            "Wie lange dauert das Laden der Akkus?": "Akku",
            "Welche Groesse haben die Winkel von Gelenken?": "Gelenke",  # without umlauts
            "Was sind Gelneke?": "Gelenke",  # misspelled
            "Geschwindikeit der Räder": "Lösung",
            "loesungen der gleichung": "Lösung",
        },
    ),
    "ar": Course(
        {
            "العقد": "العقدة برنامج صغير في الروبوت. تتبادل العقد الرسائل عبر المواضيع.",
            "البطارية": "بطارية الروبوت مصنوعة من الليثيوم، ويستغرق شحنها ساعتين.",
            "التوازن": "يحافظ الروبوت على توازنه أثناء المشي، وإلا فإنه يسقط.",
            "المكتبة": "تحتوي المكتبة على كتب كثيرة عن الروبوتات.",
        },
        {
            "ما هي العقدة؟": "العقد",
            "كم يستغرق شحن البطارية؟": "البطارية",
            "كيف يحافظ الروبوت على التوزان؟": "التوازن",  # misspelled
            "كُتُبٌ عن الروبوتات": "المكتبة",  # with vowel marks
            "اثناء المشي": "التوازن",  # without the hamza
        },
    ),
    "ko": Course(
        {
            "노드": "노드는 로봇의 작은 프로그램이다. 노드는 토픽으로 메시지를 주고받는다.",
            "배터리": "로봇의 배터리는 리튬으로 만든다. 충전에는 두 시간이 걸린다.",
            "균형": "걸을 때 로봇은 균형을 유지해야 한다.",
        },
        {"노드란 무엇인가요?": "노드", "배터리를 충전하는 시간": "배터리", "로봇이 균형을 어떻게 유지하나요": "균형"},
    ),
    "th": Course(
        {
            "โหนด": "โหนดคือโปรแกรมขนาดเล็กของหุ่นยนต์ โหนดส่งข้อความหากัน",
            "แบตเตอรี่": "แบตเตอรี่ของหุ่นยนต์ทำจากลิเธียม การชาร์จใช้เวลาสองชั่วโมง",
            "การทรงตัว": "ขณะเดินหุ่นยนต์ต้องรักษาสมดุล มิฉะนั้นจะล้ม",
        },
        {"โหนดคืออะไร": "โหนด", "ชาร์จแบตเตอรี่นานเท่าไร": "แบตเตอรี่", "หุ่นยนต์รักษาสมดุลอย่างไร": "การทรงตัว"},
    ),
}


def passages(course: Course) -> list[Passage]:
    return [
        Passage(
            id=str(uuid.UUID(int=number)),
            path=f"/{number}",
            anchor="",
            title=heading,
            heading_path=(heading,),
            text=text,
            url=f"/{number}",
        )
        for number, (heading, text) in enumerate(course.passages.items(), start=1)
    ]


@pytest.mark.parametrize("language", COURSES)
async def test_a_question_finds_the_passage_that_answers_it(language: str, tmp_path: Path):
    course = COURSES[language]
    async with EdgeIndex(tmp_path / "index", language=language) as index:
        await index.publish([], passages(course))
        retriever = Retriever(index)
        found = {question: await retriever.retrieve(question) for question in course.questions}

    assert {question: hits.hits[0].passage.title for question, hits in found.items() if hits.hits} == course.questions
    assert [question for question, hits in found.items() if hits.weak] == []


class TestNamesOfCode:
    @pytest.fixture
    async def retriever(self, tmp_path: Path):
        course = Course(
            {
                "Spinning": "Call `rclpy.spin` to keep a node running.",
                "Gradients": "Wrap the loop in `torch.no_grad` when you evaluate.",
                "Options": "An option `is_some` where it holds a value.",
                "Publishing": "The method createPublisher makes one for a topic.",
                "Borrowing": "The compiler answers E0382: borrow of moved value.",
                "Mutability": "The compiler answers E0596: cannot borrow as mutable.",
                "Building": "Pass --no-cache to build every layer again, or --release for speed.",
            },
            {},
        )
        async with EdgeIndex(tmp_path / "index") as index:
            await index.publish([], passages(course))
            yield Retriever(index)

    @pytest.mark.parametrize(
        ("question", "heading"),
        [
            ("rclpy.spin", "Spinning"),
            ("what does spin do", "Spinning"),
            ("torch.no_grad()", "Gradients"),
            ("no_grad", "Gradients"),
            ("nograd", "Gradients"),
            ("is_some", "Options"),
            ("create_publisher", "Publishing"),
            ("createpublisher", "Publishing"),
            ("creatPublisher", "Publishing"),
            ("E0382", "Borrowing"),
            ("error e0596", "Mutability"),
            ("--release", "Building"),
            ("the --no-cache flag", "Building"),
        ],
    )
    async def test_they_are_found_whole_and_by_their_parts(self, retriever: Retriever, question: str, heading: str):
        found = await retriever.retrieve(question)

        assert found.hits[0].passage.title == heading
        assert not found.weak


class TestNames:
    @pytest.mark.parametrize(
        ("named", "name"),
        [
            *(("ur", "urdu"), ("Urdu", "urdu"), ("ur-PK", "urdu"), ("zh_CN", "chinese"), ("ja", "japanese")),
            *(("pt-BR", "portuguese"), (" EN ", "english"), ("nb", "norwegian"), ("farsi", "persian")),
            *(("slovenian", "slovene"), ("Haitian Creole", "haitian_creole"), ("english", "english")),
        ],
    )
    def test_a_language_is_known_by_its_names_and_codes(self, named: str, name: str):
        assert find_language(named).name == name
        assert Analyser(language=named).language == name

    @pytest.mark.parametrize(
        ("named", "advice"),
        [
            ("englsh", "did you mean english"),
            ("urdoo", "urdu"),
            ("Deutsch", "in English"),
            ("", "by its code"),
            ("!!", "by its code"),
        ],
    )
    def test_nonsense_is_refused_with_advice(self, named: str, advice: str, tmp_path: Path):
        with pytest.raises(ConfigurationError, match=advice):
            EdgeIndex(tmp_path, language=named)

    def test_an_index_is_the_same_by_whichever_name_its_language_is_called(self, tmp_path: Path):
        assert EdgeIndex(tmp_path, language="ur").signature == EdgeIndex(tmp_path, language="Urdu").signature

    @pytest.mark.parametrize("language", sorted(STEMMED))
    def test_every_stemmer_that_the_engine_has_works(self, language: str):
        analyser = Analyser(language=language)
        sample = {"greek": "ρομπότ", "russian": "робот", "armenian": "ռոբոտ", "arabic": "روبوت", "tamil": "ரோபோ"}

        assert analyser.terms(sample.get(language, "robot")) != []

    @pytest.mark.parametrize(
        ("language", "one", "other"),
        [
            ("german", "Häuser", "Haus"),
            ("french", "créations", "creation"),
            ("russian", "роботы", "роботами"),
            ("arabic", "الكتاب", "كتاب"),
            ("tamil", "மரங்கள்", "மரங்களை"),
            ("urdu", "robots", "robot"),  # Latin letters on pages of another script are English
            ("german", "Straße", "Strasse"),
        ],
    )
    def test_forms_of_a_word_are_one_term(self, language: str, one: str, other: str):
        analyser = Analyser(language=language)

        assert analyser.terms(one) == analyser.terms(other) != []

    @pytest.mark.parametrize(
        ("language", "said"),
        [
            ("german", "für über können"),
            ("french", "été à même"),
            ("urdu", "کیا ہے"),
            ("hindi", "क्या है"),
            ("polish", ""),
        ],
    )
    def test_stop_words_are_none_also_with_accents(self, language: str, said: str):
        assert Analyser(language=language).terms(said) == []

    def test_a_language_without_a_stemmer_is_not_stemmed_as_english(self):
        polish = Analyser(language="pl")

        assert polish.terms("running") != polish.terms("run")
        assert polish.terms("węzeł") == polish.terms("wezel")
