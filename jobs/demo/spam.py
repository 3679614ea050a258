"""Harmless imitations of what a web corpus does not want: keyword stuffing, gambling adverts, shop boilerplate.

In: a language, a flavour and a seed. Out: paragraphs, the same for the same arguments on every machine.
The pages take some seeds, the classifiers train on others, their tests on others again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

PHRASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("en", "shop"): tuple(
        "cheap watches|best watches online|discount watches|buy luxury watches|free shipping worldwide|watches for men|watches for women"
        "|lowest price guaranteed|order now|top brand outlet|replica sale|limited stock|best price 2024|cheap handbags|handbags outlet store"
        "|buy two get one free|coupon code inside|official store|wholesale price|fast delivery|money back|hot sale today|click here to buy"
        "|new arrivals|cheap sneakers|sneakers outlet|discount sunglasses|sunglasses sale online|best deals|clearance sale|save up to 90%".split("|")
    ),
    ("en", "casino"): tuple(
        "online casino bonus|free spins|no deposit needed|play slots now|jackpot every day|win real money|best casino sites|instant withdrawal"
        "|register today|100% welcome bonus|live roulette|blackjack online|mobile casino app|VIP club|lucky wheel|daily cashback|trusted betting"
        "|sports betting odds|poker room|bet now|claim your bonus|huge prizes|play for free|top rated slots|new players only|double your deposit"
        "|secure payment|play anytime anywhere|casino reviews|free chips".split("|")
    ),
    ("zh", "casino"): tuple(
        "注册送彩金|首存送百分之百|网上娱乐城|真人在线|提款秒到账|老虎机爆大奖|官方网站入口|最新网址|手机客户端下载|贵宾厅|体育投注|电子游戏"
        "|彩票计划|稳赚不赔|天天返水|信誉平台|马上开户|客服在线|免费试玩|优惠活动|大额无忧|限时领取|邀请好友|棋牌大厅|幸运转盘|赢取大奖"
        "|高额赔率|线路检测|备用网址|立即加入".split("|")
    ),
    ("zh", "shop"): tuple(
        "厂家直销|价格优惠|欢迎来电咨询|批发零售|全国包邮|质量保证|现货供应|量大从优|品牌正品|特价促销|专业生产|型号齐全|售后无忧|免费报价"
        "|不锈钢水箱|塑料托盘|工业风机|高压阀门|搬家公司电话|开锁公司电话|办公家具定制|彩钢板房|诚信经营|长期合作|货到付款|点击查看"
        "|最低价|在线订购|热销产品|行业领先".split("|")
    ),
    ("de", "shop"): tuple(
        "günstig kaufen|jetzt bestellen|Gutschein sichern|kostenloser Versand|bester Preis|Angebot des Tages|Rabatt auf alles|nur heute"
        "|Markenuhren billig|Handtaschen Outlet|Schuhe reduziert|online Shop|Testsieger 2024|Preisvergleich|hier klicken|Newsletter abonnieren"
        "|Geld zurück|sofort lieferbar|Ratenzahlung möglich|Sonderangebot|Schnäppchen|Kredit ohne Prüfung|Sonnenbrillen Sale|Lagerverkauf".split("|")
    ),
}
"""(language, flavour) -> phrases that are strung together."""

BOILERPLATE: dict[str, tuple[str, ...]] = {
    "en": tuple(
        "Accept all cookies to continue.|Sign up for our newsletter and never miss a post.|All rights reserved.|Follow us on social media."
        "|Log in or create an account to leave a comment.|Share this page with your friends.|Terms of use and privacy policy."
        "|You may also like these articles.|Click here to read more.|Please enable JavaScript to view this site."
        "|Subscribe now for full access.|Add to basket and proceed to checkout.|Back to top.|Your cart is empty.".split("|")
    ),
    "zh": tuple(
        "请登录后发表评论。|版权所有，未经许可不得转载。|点击关注我们的公众号。|上一篇，下一篇。|相关推荐，猜你喜欢。|分享到朋友圈。"
        "|加载更多内容。|请使用最新版本的浏览器访问本站。|注册成为会员享受更多权益。|本站所有资源来自网络。|返回首页，联系我们。|购物车是空的。".split("|")
    ),
}
"""Language -> sentences of page furniture."""


def spam(lang: str, flavour: str, seed: str, n_paragraphs: int = 6) -> list[str]:
    """Paragraphs of keyword spam.

    >>> spam("en", "shop", "a") == spam("en", "shop", "a") != spam("en", "shop", "b")
    True
    """
    rng = random.Random(f"spam/{lang}/{flavour}/{seed}")
    return [_stuffed(rng, PHRASES[lang, flavour], lang) for _ in range(n_paragraphs)]


def boilerplate(lang: str, seed: str, n_sentences: int = 12) -> list[str]:
    """Sentences of page furniture in random order, with repeats."""
    rng = random.Random(f"boilerplate/{lang}/{seed}")
    return [rng.choice(BOILERPLATE[lang]) for _ in range(n_sentences)]


def _stuffed(rng: random.Random, phrases: Sequence[str], lang: str) -> str:
    sentences = []
    for _ in range(rng.randint(4, 6)):
        chosen = rng.choices(phrases, k=rng.randint(5, 9))
        sentences.append(("，" if lang == "zh" else ", ").join(chosen) + ("！" if lang == "zh" else "!"))
    return ("" if lang == "zh" else " ").join(sentences)
