"""Which language a course is in: its names and codes, and what the engine knows of it.

Every language of ISO 639-1 is taken. Those with a stemmer find other forms of a word; those with stop words know what
is not worth a term; the others find words as they are written, mended where they are misspelled.
"""

from dataclasses import dataclass
from difflib import get_close_matches

from chatkit_rag.errors import ConfigurationError

_CODES = """
aa=afar ab=abkhazian ae=avestan af=afrikaans ak=akan am=amharic an=aragonese ar=arabic as=assamese av=avaric ay=aymara
az=azerbaijani ba=bashkir be=belarusian bg=bulgarian bi=bislama bm=bambara bn=bengali bo=tibetan br=breton bs=bosnian
ca=catalan ce=chechen ch=chamorro co=corsican cr=cree cs=czech cu=church_slavic cv=chuvash cy=welsh da=danish de=german
dv=divehi dz=dzongkha ee=ewe el=greek en=english eo=esperanto es=spanish et=estonian eu=basque fa=persian ff=fula
fi=finnish fj=fijian fo=faroese fr=french fy=western_frisian ga=irish gd=scottish_gaelic gl=galician gn=guarani
gu=gujarati gv=manx ha=hausa he=hebrew hi=hindi ho=hiri_motu hr=croatian ht=haitian_creole hu=hungarian hy=armenian
hz=herero ia=interlingua id=indonesian ie=interlingue ig=igbo ii=sichuan_yi ik=inupiaq io=ido is=icelandic it=italian
iu=inuktitut ja=japanese jv=javanese ka=georgian kg=kongo ki=kikuyu kj=kuanyama kk=kazakh kl=kalaallisut km=khmer
kn=kannada ko=korean kr=kanuri ks=kashmiri ku=kurdish kv=komi kw=cornish ky=kyrgyz la=latin lb=luxembourgish lg=ganda
li=limburgish ln=lingala lo=lao lt=lithuanian lu=luba_katanga lv=latvian mg=malagasy mh=marshallese mi=maori
mk=macedonian ml=malayalam mn=mongolian mr=marathi ms=malay mt=maltese my=burmese na=nauru nd=north_ndebele ne=nepali
ng=ndonga nl=dutch no=norwegian nr=south_ndebele nv=navajo ny=nyanja oc=occitan oj=ojibwa om=oromo or=odia os=ossetic
pa=punjabi pi=pali pl=polish ps=pashto pt=portuguese qu=quechua rm=romansh rn=rundi ro=romanian ru=russian
rw=kinyarwanda sa=sanskrit sc=sardinian sd=sindhi se=northern_sami sg=sango si=sinhala sk=slovak sl=slovene sm=samoan
sn=shona so=somali sq=albanian sr=serbian ss=swati st=southern_sotho su=sundanese sv=swedish sw=swahili ta=tamil
te=telugu tg=tajik th=thai ti=tigrinya tk=turkmen tn=tswana to=tongan tr=turkish ts=tsonga tt=tatar tw=twi ty=tahitian
ug=uyghur uk=ukrainian ur=urdu uz=uzbek ve=venda vi=vietnamese vo=volapuk wa=walloon wo=wolof xh=xhosa yi=yiddish
yo=yoruba za=zhuang zh=chinese zu=zulu
"""
_BY_CODE: dict[str, str] = {code: name for code, _, name in (pair.partition("=") for pair in _CODES.split())}

_OTHER_NAMES = {
    "bangla": "bengali",
    "castilian": "spanish",
    "farsi": "persian",
    "flemish": "dutch",
    "fil": "tagalog",
    "iw": "hebrew",
    "mandarin": "chinese",
    "nb": "norwegian",
    "nn": "norwegian",
    "slovenian": "slovene",
    "filipino": "tagalog",
    "tl": "tagalog",
    "tagalog": "tagalog",
    "hinglish": "hinglish",
}
"""Former codes, other names, and languages that have no code of their own."""

_BY_NAME = _BY_CODE | {name: name for name in _BY_CODE.values()} | _OTHER_NAMES

STEMMED = frozenset(
    [
        *("arabic", "armenian", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian"),
        *("italian", "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish"),
    ]
)
"""Languages that the engine has a Snowball stemmer for."""

STOPPED = (STEMMED - {"armenian", "tamil"}) | {
    *("azerbaijani", "basque", "bengali", "catalan", "chinese", "hebrew", "hinglish", "indonesian", "japanese"),
    *("kazakh", "nepali", "slovene", "tajik"),
}
"""Languages that the engine has stop words for."""

_OTHER_SCRIPTS = frozenset(
    _BY_CODE[code]
    for codes in (
        "ab am ar as av ba be bg bn bo ce cr cu cv dv dz el fa gu he hi hy ii iu ja ka kk km kn ko",
        "ks kv ky lo mk ml mn mr my ne oj or os pa ps ru sa sd si sr ta te tg th ti tt ug uk ur yi zh",
    )
    for code in codes.split()
)
"""Languages that are not written in Latin letters."""


@dataclass(frozen=True, slots=True)
class Language:
    """A language by its English name in lower case."""

    name: str
    is_latin: bool
    """Whether it is written in Latin letters; what stands in them in another one's pages is taken for English."""


def find_language(named: str) -> Language:
    """The language of a name or code: `urdu`, `Urdu`, `ur`, `ur-PK` and `ur_PK` are one.

    Raises:
        ConfigurationError: there is none; the message names those that are spelled nearly so.
    """
    asked = named.strip().lower()
    whole = asked.replace(" ", "_")
    name = _BY_NAME.get(whole) or _BY_NAME.get(asked.replace("_", "-").split("-")[0])
    if name is None:
        near = get_close_matches(whole, _BY_NAME, n=3)
        guess = f"did you mean {' or '.join(near)}? " if near else ""
        advice = f"{guess}name it in English (`urdu`) or by its code (`ur`)"
        raise ConfigurationError(f"no language is called {named!r}: {advice}")
    return Language(name, is_latin=name not in _OTHER_SCRIPTS)
