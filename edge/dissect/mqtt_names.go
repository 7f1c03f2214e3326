package dissect

func mqttName(kind byte) string {
	names := [16]string{
		"", "connect", "connack", "publish", "puback", "pubrec", "pubrel", "pubcomp",
		"subscribe", "suback", "unsubscribe", "unsuback", "pingreq", "pingresp", "disconnect", "auth",
	}
	return names[kind&15]
}

// connackName names a return code of 3.1.1 (section 3.2.2.3) or a reason code of 5.
func connackName(c byte, old bool) string {
	if old && c < 6 {
		return [...]string{
			"accepted", "unacceptable_protocol_version", "identifier_rejected",
			"server_unavailable", "bad_user_name_or_password", "not_authorized",
		}[c]
	}
	return reasonName(c)
}

// reasonName names a reason code (MQTT 5, section 2.4).
func reasonName(c byte) string {
	switch c {
	case 0x00:
		return "success"
	case 0x04:
		return "disconnect_with_will"
	case 0x80:
		return "unspecified_error"
	case 0x81:
		return "malformed_packet"
	case 0x82:
		return "protocol_error"
	case 0x83:
		return "implementation_specific_error"
	case 0x84:
		return "unsupported_protocol_version"
	case 0x85:
		return "client_identifier_not_valid"
	case 0x86:
		return "bad_user_name_or_password"
	case 0x87:
		return "not_authorized"
	case 0x88:
		return "server_unavailable"
	case 0x89:
		return "server_busy"
	case 0x8a:
		return "banned"
	case 0x8b:
		return "server_shutting_down"
	case 0x8c:
		return "bad_authentication_method"
	case 0x8d:
		return "keep_alive_timeout"
	case 0x8e:
		return "session_taken_over"
	case 0x8f:
		return "topic_filter_invalid"
	case 0x90:
		return "topic_name_invalid"
	case 0x91:
		return "packet_identifier_in_use"
	case 0x93:
		return "receive_maximum_exceeded"
	case 0x94:
		return "topic_alias_invalid"
	case 0x95:
		return "packet_too_large"
	case 0x96:
		return "message_rate_too_high"
	case 0x97:
		return "quota_exceeded"
	case 0x98:
		return "administrative_action"
	case 0x99:
		return "payload_format_invalid"
	case 0x9a:
		return "retain_not_supported"
	case 0x9b:
		return "qos_not_supported"
	case 0x9c:
		return "use_another_server"
	case 0x9d:
		return "server_moved"
	case 0x9f:
		return "connection_rate_exceeded"
	}
	return ""
}
