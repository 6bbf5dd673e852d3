/* isodate.c - ISO 8601 dates without the C library
 *
 * gmtime and strptime would take a lock, a locale and half a microsecond.  The
 * calendar is the proleptic Gregorian one, counted in eras of 400 years that
 * start on 1 March, so that leap days come last (both ways exact for years 1
 * to 9999).
 */
#include "base/isodate.h"

#include "roundhouse/error.h"

#define DAY_US INT64_C(86400000000)
#define MIN_US INT64_C(-62135596800000000) // 0001-01-01
#define MAX_US INT64_C(253402300799999999) // 9999-12-31T23:59:59.999999

struct civil {
    int year, month, day;
};

/* Days since 1970-01-01. */
static int64_t
days_from_civil(struct civil c)
{
    int y = c.month <= 2 ? c.year - 1 : c.year; // year 0 at the least
    int era = y / 400;
    int year_of_era = y - era * 400;
    int month_from_march = (c.month + 9) % 12;
    int day_of_year = (153 * month_from_march + 2) / 5 + c.day - 1;
    int day_of_era =
        year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return (int64_t)era * 146097 + day_of_era - 719468;
}

static struct civil
civil_from_days(int64_t days)
{
    int n = (int)(days + 719468); // days since 0000-03-01, not negative here
    int era = n / 146097;
    int doe = n - era * 146097;
    int yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int mp = (5 * doy + 2) / 153;
    struct civil c = {
        .year = yoe + era * 400,
        .month = mp < 10 ? mp + 3 : mp - 9,
        .day = doy - (153 * mp + 2) / 5 + 1,
    };

    if (c.month <= 2)
        c.year++;
    return c;
}

static void
put(char *out, int64_t value, int width)
{
    while (width-- > 0) {
        out[width] = (char)('0' + value % 10);
        value /= 10;
    }
}

void
isodate_format(int64_t wall_us, char out[ISODATE_SIZE])
{
    int64_t days, us;
    struct civil c;

    if (wall_us < MIN_US)
        wall_us = MIN_US;
    if (wall_us > MAX_US)
        wall_us = MAX_US;
    days = wall_us / DAY_US;
    us = wall_us % DAY_US;
    if (us < 0) {
        us += DAY_US;
        days--;
    }
    c = civil_from_days(days);
    memcpy(out, "0000-00-00T00:00:00.000000Z", ISODATE_SIZE);
    put(out, c.year, 4);
    put(out + 5, c.month, 2);
    put(out + 8, c.day, 2);
    put(out + 11, us / INT64_C(3600000000), 2);
    put(out + 14, us / 60000000 % 60, 2);
    put(out + 17, us / 1000000 % 60, 2);
    put(out + 20, us % 1000000, 6);
}

/* Take 'width' digits off the front; false if they are not there or exceed
 * 'max'.
 */
static bool
digits(struct span *s, size_t width, int max, int *out)
{
    int value = 0;

    if (s->n < width)
        return false;
    for (size_t i = 0; i < width; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        value = value * 10 + (s->p[i] - '0');
    }
    *s = span_of(s->p + width, s->n - width);
    *out = value;
    return value <= max;
}

static bool
one(struct span *s, char c)
{
    if (s->n == 0 || s->p[0] != (uint8_t)c)
        return false;
    *s = span_of(s->p + 1, s->n - 1);
    return true;
}

/* ".f{1,6}", if present, in microseconds. */
static bool
fraction(struct span *s, int *us)
{
    int digit, n = 0;

    *us = 0;
    if (!one(s, '.'))
        return true;
    for (; n < 6 && s->n && s->p[0] >= '0' && s->p[0] <= '9'; n++) {
        digits(s, 1, 9, &digit);
        *us = *us * 10 + digit;
    }
    if (n == 0)
        return false;
    for (; n < 6; n++)
        *us *= 10;
    return true;
}

/* The zone, which must end the text, in minutes east. */
static bool
zone(struct span *s, int *minutes)
{
    int sign, h, m;

    *minutes = 0;
    if (s->n == 0 || one(s, 'Z'))
        return s->n == 0;
    if (one(s, '+'))
        sign = 1;
    else if (one(s, '-'))
        sign = -1;
    else
        return false;
    if (!digits(s, 2, 23, &h))
        return false;
    one(s, ':');
    if (!digits(s, 2, 59, &m))
        return false;
    *minutes = sign * (h * 60 + m);
    return s->n == 0;
}

static int
days_in_month(int year, int month)
{
    static const uint8_t days[12] = {31, 28, 31, 30, 31, 30,
                                     31, 31, 30, 31, 30, 31};
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);

    return month == 2 && leap ? 29 : days[month - 1];
}

int
isodate_parse(struct span s, int64_t *wall_us)
{
    int h, m, sec, us, east;
    struct civil c;

    if (!digits(&s, 4, 9999, &c.year) || !one(&s, '-')
        || !digits(&s, 2, 12, &c.month) || !one(&s, '-')
        || !digits(&s, 2, 31, &c.day) || !one(&s, 'T') || !digits(&s, 2, 23, &h)
        || !one(&s, ':') || !digits(&s, 2, 59, &m) || !one(&s, ':')
        || !digits(&s, 2, 59, &sec) || !fraction(&s, &us) || !zone(&s, &east))
        return RH_EPROTO;
    if (c.year < 1 || c.month < 1 || c.day < 1
        || c.day > days_in_month(c.year, c.month))
        return RH_EPROTO;
    *wall_us = days_from_civil(c) * DAY_US
               + ((int64_t)(h * 60 + m - east) * 60 + sec) * 1000000 + us;
    return 0;
}
