package h1

// DateLen is the length of an HTTP date.
const DateLen = 29

const (
	weekdays = "SunMonTueWedThuFriSat"
	months   = "JanFebMarAprMayJunJulAugSepOctNovDec"
)

// FormatDate writes unixSec as an IMF-fixdate, such as "Sun, 06 Nov 1994 08:49:37 GMT" (RFC 9110 5.6.7). The years 0 to 9999 are
// written right. Call it once a second and give the bytes to every response of that second.
func FormatDate(dst *[29]byte, unixSec int64) {
	days, sec := unixSec/86400, unixSec%86400
	if sec < 0 {
		days, sec = days-1, sec+86400
	}
	// Civil date from the day number, counted in years that begin in March (Howard Hinnant's days_from_civil, inverted).
	z := days + 719468 // days since 0000-03-01
	era := z / 146097
	if z < 0 {
		era = (z - 146096) / 146097
	}
	doe := z - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	day, month, year := doy-(153*mp+2)/5+1, mp+3, yoe+era*400
	if month > 12 {
		month, year = month-12, year+1
	}
	wd := (days%7 + 11) % 7 // 1970-01-01 was a Thursday (4)
	copy(dst[0:3], weekdays[wd*3:])
	dst[3], dst[4] = ',', ' '
	two(dst[5:], day)
	dst[7] = ' '
	copy(dst[8:11], months[(month-1)*3:])
	dst[11] = ' '
	two(dst[12:], year/100)
	two(dst[14:], year%100)
	dst[16] = ' '
	two(dst[17:], sec/3600)
	dst[19] = ':'
	two(dst[20:], sec/60%60)
	dst[22] = ':'
	two(dst[23:], sec%60)
	copy(dst[25:], " GMT")
}

func two(dst []byte, v int64) {
	dst[0], dst[1] = byte('0'+v/10%10), byte('0'+v%10)
}
