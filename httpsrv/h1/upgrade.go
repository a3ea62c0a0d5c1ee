package h1

// keyLen is the length of 16 octets in base64, two '=' included.
const keyLen = 24

// CheckUpgrade judges a head that Parse found OK as the opening handshake of a WebSocket (RFC 6455 4.2.1). Who calls it has decided
// by the path that a WebSocket is wanted, and looks at Origin and WsProtocol afterwards.
//
//   - 405 (Allow: GET) for other methods, 400 for HTTP/1.0 and for a body;
//   - 426 without Upgrade: websocket (RFC 9110 15.5.22), 400 without upgrade in Connection;
//   - 426 for a version other than 13, 400 without one or with two;
//   - 400 for no key, for two, and for one that is not 16 octets in base64.
//
// Answer 426 with RespHead.WsVersion set.
func CheckUpgrade(h *Head) Verdict {
	switch {
	case h.Method != GET:
		return Verdict{405, ReasonUnknownMethod, WhyUpgradeMethod}
	case h.Minor == 0:
		return bad(WhyUpgradeVersion)
	case !h.UpgradeWebSocket:
		return Verdict{426, ReasonWsMissingUpgrade, WhyUpgradeMissing}
	case !h.ConnUpgrade:
		return Verdict{400, ReasonWsMissingUpgrade, WhyUpgradeToken}
	case h.wsVersionCnt == 0:
		return Verdict{400, ReasonWsMissingVersion, WhyWsVersionMissing}
	case h.wsVersionCnt > 1:
		return Verdict{400, ReasonWsUnexpectedVersion, WhyWsVersion}
	case string(h.WsVersion) != "13":
		return Verdict{426, ReasonWsUnexpectedVersion, WhyWsVersion}
	case h.wsKeyCnt == 0:
		return Verdict{400, ReasonWsMissingKey, WhyKeyMissing}
	case h.wsKeyCnt > 1 || !validKey(h.WsKey):
		return Verdict{400, ReasonWsBadKey, WhyKeySyntax}
	case h.ContentLength > 0:
		return bad(WhyUpgradeBody)
	}
	return Verdict{}
}

// validKey reports whether k is the base64 form of exactly 16 octets.
func validKey(k []byte) bool {
	if len(k) != keyLen || k[22] != '=' || k[23] != '=' {
		return false
	}
	for _, c := range k[:22] {
		if l := c | 0x20; (l < 'a' || l > 'z') && (c < '0' || c > '9') && c != '+' && c != '/' {
			return false
		}
	}
	return true
}
