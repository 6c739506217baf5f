package record

import "strconv"

// Alert is why a connection ends, in the words of RFC 8446, section 6: what an
// Opener found wrong, or what the peer told.
type Alert uint8

// The alerts this package tells apart.
const (
	CloseNotify       Alert = 0 // the end of the stream, no error
	UnexpectedMessage Alert = 10
	BadRecordMAC      Alert = 20
	RecordOverflow    Alert = 22
	IllegalParameter  Alert = 47
	DecodeError       Alert = 50
	InternalError     Alert = 80
	UserCanceled      Alert = 90 // without meaning: a close_notify follows it
)

var alertNames = map[Alert]string{
	CloseNotify:       "close_notify",
	UnexpectedMessage: "unexpected_message",
	BadRecordMAC:      "bad_record_mac",
	RecordOverflow:    "record_overflow",
	40:                "handshake_failure",
	42:                "bad_certificate",
	43:                "unsupported_certificate",
	44:                "certificate_revoked",
	45:                "certificate_expired",
	46:                "certificate_unknown",
	IllegalParameter:  "illegal_parameter",
	48:                "unknown_ca",
	49:                "access_denied",
	DecodeError:       "decode_error",
	51:                "decrypt_error",
	70:                "protocol_version",
	71:                "insufficient_security",
	InternalError:     "internal_error",
	86:                "inappropriate_fallback",
	UserCanceled:      "user_canceled",
	109:               "missing_extension",
	110:               "unsupported_extension",
	112:               "unrecognized_name",
	113:               "bad_certificate_status_response",
	115:               "unknown_psk_identity",
	116:               "certificate_required",
	120:               "no_application_protocol",
}

func (a Alert) Error() string {
	if name, ok := alertNames[a]; ok {
		return "tls: " + name
	}
	return "tls: alert " + strconv.Itoa(int(a))
}

// ParseAlert reads the payload of a record of TypeAlert. Its level says nothing
// in TLS 1.3: all but CloseNotify and UserCanceled are fatal. The error is an
// Alert too, for a peer that sends what is none.
func ParseAlert(payload []byte) (Alert, error) {
	if len(payload) != 2 {
		return 0, DecodeError
	}
	return Alert(payload[1]), nil
}
