"""Site templates: the same document dressed as a blog, a newspaper, a forum, a manual, an old table layout or a print view.

In: a `Text`, a template name and a seed. Out: HTML as a Python string, with navigation, cookie banner, sidebar, related
links, comments and footer in the language of the text; the words around the text change with the seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from jobs.demo.texts import Text, load_texts


@dataclass(frozen=True)
class Furniture:
    """The words of a page that are not the document."""

    nav: tuple[str, ...]
    cookies: str
    related: str
    comments: str
    remarks: tuple[str, ...]
    share: str
    footer: str


FURNITURE = {
    "en": Furniture(
        ("Home", "About", "Archive", "Contact", "Log in"),
        "We use cookies to improve your experience. Accept all | Settings",
        "Related posts",
        "Comments",
        ("Thanks, this helped me a lot.", "Has anyone tried this with older models?", "Great read!", "I disagree with the second point."),
        "Share this: Mail Print Copy link",
        "© 2024 All rights reserved. Privacy policy. Terms of use.",
    ),
    "zh": Furniture(
        ("首页", "栏目", "归档", "关于我们", "登录"),
        "本网站使用 Cookie 以改善浏览体验。接受 设置",
        "相关阅读",
        "网友评论",
        ("学到了，谢谢分享。", "沙发！", "楼主写得真详细。", "第二点不太同意。"),
        "分享到：微博 朋友圈 复制链接",
        "版权所有 © 2024 未经授权不得转载 联系我们",
    ),
    "zh-Hant": Furniture(
        ("首頁", "欄目", "彙整", "關於我們", "登入"),
        "本網站使用 Cookie 以改善瀏覽體驗。接受 設定",
        "延伸閱讀",
        "網友留言",
        ("學到了，謝謝分享。", "頭香！", "第二點不太同意。"),
        "分享到：郵件 列印 複製連結",
        "版權所有 © 2024 未經授權不得轉載 聯絡我們",
    ),
    "de": Furniture(
        ("Startseite", "Über uns", "Archiv", "Kontakt", "Anmelden"),
        "Wir verwenden Cookies. Alle akzeptieren | Einstellungen",
        "Ähnliche Beiträge",
        "Kommentare",
        ("Danke, sehr hilfreich.", "Das sehe ich anders.", "Schöner Beitrag!"),
        "Teilen: E-Mail Drucken Link kopieren",
        "© 2024 Alle Rechte vorbehalten. Impressum. Datenschutz.",
    ),
    "ja": Furniture(
        ("ホーム", "記事一覧", "お問い合わせ", "ログイン"),
        "当サイトではクッキーを使用しています。同意する 設定",
        "関連記事",
        "コメント",
        ("参考になりました。", "ありがとうございます。", "続きが楽しみです。"),
        "シェアする：メール 印刷 リンクをコピー",
        "© 2024 無断転載を禁じます。プライバシーポリシー",
    ),
}


def blocks_html(body: Iterable[tuple[str, str]]) -> str:
    """Blocks as HTML; neighbouring list items share one list."""
    parts: list[str] = []
    for kind, run in groupby(body, key=lambda block: block[0]):
        inner = "\n".join(f"<{kind}>{escape(text, quote=False)}</{kind}>" for _, text in run)
        parts.append(f"<ul>\n{inner}\n</ul>" if kind == "li" else inner)
    return "\n".join(parts)


def render(text: Text, template: str, seed: str, head: str = '<meta charset="utf-8">') -> str:
    """The document in one of `TEMPLATES`. `head` declares the charset, or is empty."""
    rng = random.Random(f"template/{template}/{seed}")
    return TEMPLATES[template](text, FURNITURE[_locale(text)], rng, head)


def _locale(text: Text) -> str:
    return "zh-Hant" if text.is_traditional else text.lang


def _page(text: Text, head: str, body: str) -> str:
    lang = "zh-Hant" if text.is_traditional else text.lang
    return (
        f'<!DOCTYPE html>\n<html lang="{lang}">\n<head>{head}<title>{escape(text.title)}</title></head>\n<body>\n{body}\n</body>\n</html>\n'
    )


def _links(words: Sequence[str]) -> str:
    return "".join(f'<li><a href="/{number}">{escape(word)}</a></li>' for number, word in enumerate(words))


def _related(text: Text, rng: random.Random, n: int = 5) -> str:
    others = [other.title for other in load_texts(text.lang) if other.id != text.id and _locale(other) == _locale(text)]
    return _links(rng.sample(others, min(n, len(others))))


def _remarks(words: Furniture, rng: random.Random) -> str:
    chosen = rng.sample(words.remarks, 2)
    return "".join(f'<div class="comment"><b>user{rng.randint(10, 99)}</b><p>{remark}</p></div>' for remark in chosen)


def _blog(text: Text, words: Furniture, rng: random.Random, head: str) -> str:
    return _page(
        text,
        head,
        f"""<header><nav><ul>{_links(words.nav)}</ul></nav></header>
<div class="cookie-banner">{words.cookies}</div>
<main><article><h1>{escape(text.title)}</h1>
{blocks_html(text.body)}
</article></main>
<aside class="sidebar"><h3>{words.related}</h3><ul>{_related(text, rng)}</ul></aside>
<section id="comments"><h3>{words.comments}</h3>{_remarks(words, rng)}</section>
<footer>{words.footer}</footer>""",
    )


def _news(text: Text, words: Furniture, rng: random.Random, head: str) -> str:
    return _page(
        text,
        head,
        f"""<script>window.ads = {{"slot": {rng.randint(1, 999)}}};</script><style>.x {{color: red}}</style>
<div id="nav" class="menu">{" | ".join(f'<a href="/{n}">{word}</a>' for n, word in enumerate(words.nav))}</div>
<div class="content"><h1>{escape(text.title)}</h1>
<div class="share">{words.share}</div>
{blocks_html(text.body)}
<div class="share">{words.share}</div></div>
<div class="related"><h4>{words.related}</h4><ul>{_related(text, rng, 6)}</ul></div>
<div id="footer">{words.footer}</div>
<div id="consent" role="dialog">{words.cookies}</div>""",
    )


def _forum(text: Text, words: Furniture, rng: random.Random, head: str) -> str:
    return _page(
        text,
        head,
        f"""<div class="topbar"><ul class="breadcrumb">{_links(words.nav)}</ul></div>
<div class="thread"><h1>{escape(text.title)}</h1>
<div class="post"><div class="userinfo">user{rng.randint(100, 999)} · {rng.randint(2, 4000)}</div>
<div class="post-body">{blocks_html(text.body)}</div></div>
<div class="replies">{_remarks(words, rng)}</div></div>
<div class="footer">{words.footer}</div>""",
    )


def _manual(text: Text, words: Furniture, rng: random.Random, head: str) -> str:
    return _page(
        text,
        head,
        f"""<div class="toc"><nav><ul>{_related(text, rng, 7)}</ul></nav></div>
<div role="main" class="document"><section><h1>{escape(text.title)}</h1>
{blocks_html(text.body)}
</section></div>
<footer role="contentinfo"><p>{words.footer}</p></footer>""",
    )


def _table(text: Text, words: Furniture, rng: random.Random, head: str) -> str:
    return f"""<HTML><HEAD>{head}<TITLE>{escape(text.title)}</TITLE></HEAD>
<BODY BGCOLOR=white><CENTER><FONT SIZE=5>{escape(text.title)}</FONT></CENTER>
<TABLE WIDTH=800><TR><TD VALIGN=top WIDTH=150><UL>{_links(words.nav)}</UL><HR>{words.related}<UL>{_related(text, rng, 4)}</UL></TD>
<TD>{blocks_html(text.body)}</TD></TR></TABLE>
<HR><SMALL>{words.footer}</SMALL></BODY></HTML>
"""


def _print(text: Text, words: Furniture, rng: random.Random, head: str) -> str:
    return _page(text, head, f"<h1>{escape(text.title)}</h1>\n{blocks_html(text.body)}\n<p><small>{words.footer}</small></p>")


Template = Callable[[Text, Furniture, random.Random, str], str]
TEMPLATES: dict[str, Template] = {"blog": _blog, "news": _news, "forum": _forum, "manual": _manual, "table": _table, "print": _print}
