"""Arrow values as PostgreSQL's output functions write them.

This is the second opinion about a bundle's Parquet files: it shares no code with the exporter and
starts from what any Arrow reader sees. The text is that of a session with DateStyle ISO, TimeZone
UTC, bytea_output hex, IntervalStyle postgres and extra_float_digits 3.

Encodings (`arkstream.encoding` of the field): `text` holds the output text itself; `native` is one
of bool, integers, floats, Decimal128, Utf8, Binary, Date32, Timestamp(µs), Time64(µs),
FixedSizeBinary(16) for uuid, and List of these. Date and time values are taken as integers, since
Python's own types end at the years 1 and 9999.
"""

import math

import numpy
import pyarrow as pa

DAY = 86_400_000_000


def column_texts(array, pg_type, encoding):
    """The texts of one Arrow array: a list of str, None where the value is NULL."""
    if isinstance(array, pa.ChunkedArray):
        return [text for chunk in array.chunks for text in column_texts(chunk, pg_type, encoding)]
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if encoding == "text" and not is_string(array.type):
        raise ValueError(f"a field with text encoding has the type {array.type}")
    if is_list(array.type):
        return list_texts(array, element_type(pg_type))
    convert = converter(array.type, pg_type)
    return [None if value is None else convert(value) for value in plain_values(array)]


def plain_values(array):
    """Python values; dates and times as the integers they are stored as."""
    if pa.types.is_date32(array.type):
        return array.view(pa.int32()).to_pylist()
    if pa.types.is_timestamp(array.type) or pa.types.is_time64(array.type):
        return array.view(pa.int64()).to_pylist()
    return array.to_pylist()


def converter(arrow_type, pg_type):
    t = pa.types
    if t.is_boolean(arrow_type):
        return lambda value: "t" if value else "f"
    if t.is_integer(arrow_type):
        return str
    if t.is_float64(arrow_type):
        return float8_text
    if t.is_float32(arrow_type):
        return float4_text
    if t.is_decimal(arrow_type):
        return lambda value: format(value, "f")
    if is_string(arrow_type):
        return str
    if t.is_fixed_size_binary(arrow_type) and arrow_type.byte_width == 16 and base_name(pg_type) == "uuid":
        return uuid_text
    if t.is_binary(arrow_type) or t.is_large_binary(arrow_type) or t.is_fixed_size_binary(arrow_type):
        return lambda value: "\\x" + value.hex()
    if t.is_date32(arrow_type):
        return date_text
    if t.is_timestamp(arrow_type) and arrow_type.unit == "us":
        if arrow_type.tz not in (None, "UTC"):
            raise ValueError(f"a timestamp in the zone {arrow_type.tz}, not UTC")
        zone = "" if arrow_type.tz is None else "+00"
        return lambda value: timestamp_text(value, zone)
    if t.is_time64(arrow_type) and arrow_type.unit == "us":
        return time_text
    raise ValueError(f"no PostgreSQL text for the Arrow type {arrow_type} ({pg_type})")


def is_string(arrow_type):
    t = pa.types
    return t.is_string(arrow_type) or t.is_large_string(arrow_type) or t.is_string_view(arrow_type)


def is_list(arrow_type):
    return pa.types.is_list(arrow_type) or pa.types.is_large_list(arrow_type)


def base_name(pg_type):
    return pg_type.split("(")[0].split(".")[-1].strip().lower()


def element_type(pg_type):
    """Array types are named `integer[]` or `_int4`."""
    if pg_type.endswith("[]"):
        return pg_type[:-2]
    return pg_type.removeprefix("_")


# --- numbers ---------------------------------------------------------------------------------


def float8_text(value):
    return float_text(value, repr(value), 15)


def float4_text(value):
    return float_text(value, str(numpy.float32(value)), 6)


def float_text(value, shortest, fixed_below):
    """PostgreSQL writes the shortest digits too, but changes to an exponent at other places."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digits, exponent = scientific(shortest)
    if not digits:
        return sign + "0"
    if -4 <= exponent < fixed_below:
        return sign + positional(digits, exponent)
    fraction = "." + digits[1:] if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{fraction}e{'-' if exponent < 0 else '+'}{abs(exponent):02}"


def canonical_float(pg_type):
    """A function that brings texts of one float type into one form, or None for other types.

    For some large whole numbers PostgreSQL writes one digit more than the shortest, so equal
    values can have two texts. Both sides of a comparison go through this; the value decides.
    """
    name = base_name(element_type(pg_type))
    if name in ("real", "float4"):
        scalar = lambda text: float4_text(numpy.float32(text).item())
    elif name in ("double precision", "float8"):
        scalar = lambda text: float8_text(float(text))
    else:
        return None
    if element_type(pg_type) == pg_type:
        return scalar

    def array(text):
        items = text.removeprefix("{").removesuffix("}")
        if any(c in items for c in '{}=":') or not items:
            return text  # empty, or of other bounds or dimensions: compared as it stands
        return "{" + ",".join(item if item == "NULL" else scalar(item) for item in items.split(",")) + "}"

    return array


def scientific(text):
    """(sign, significant digits without outer zeros, exponent of the first digit)."""
    sign = "-" if text.startswith("-") else ""
    mantissa, _, power = text.lstrip("-").partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    leading = len(digits) - len(digits.lstrip("0"))
    return sign, digits.strip("0"), len(whole) - 1 - leading + int(power or 0)


def positional(digits, exponent):
    if exponent < 0:
        return "0." + "0" * (-exponent - 1) + digits
    whole = digits[: exponent + 1].ljust(exponent + 1, "0")
    fraction = digits[exponent + 1 :]
    return f"{whole}.{fraction}" if fraction else whole


# --- dates and times -------------------------------------------------------------------------


def date_text(days):
    if days == 2**31 - 1:
        return "infinity"
    if days == -(2**31):
        return "-infinity"
    date, era = civil_date(days)
    return date + era


def timestamp_text(micros, zone):
    if micros == 2**63 - 1:
        return "infinity"
    if micros == -(2**63):
        return "-infinity"
    date, era = civil_date(micros // DAY)
    return f"{date} {time_text(micros % DAY)}{zone}{era}"


def time_text(micros):
    seconds, fraction = divmod(micros, 1_000_000)
    text = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}.{fraction:06}".rstrip("0") if fraction else text


def civil_date(days):
    """Days since 1970-01-01 as ("YYYY-MM-DD", "" or " BC"), proleptic Gregorian.

    The calendar repeats every 400 years of 146,097 days; years begin on March 1st, so that the
    leap day is the last.
    """
    days += 719_468
    cycle, day_of_cycle = divmod(days, 146_097)
    year_of_cycle = (
        day_of_cycle - day_of_cycle // 1_460 + day_of_cycle // 36_524 - day_of_cycle // 146_096
    ) // 365
    day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle // 4 - year_of_cycle // 100)
    shifted_month = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = cycle * 400 + year_of_cycle + (month <= 2)
    if year > 0:
        return f"{year:04}-{month:02}-{day:02}", ""
    return f"{1 - year:04}-{month:02}-{day:02}", " BC"


# --- the rest --------------------------------------------------------------------------------


def uuid_text(value):
    text = value.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def list_texts(array, pg_element_type):
    texts = column_texts(array.flatten(), pg_element_type, "native")
    lengths = array.value_lengths().to_pylist()
    result, position = [], 0
    for length in lengths:
        if length is None:
            result.append(None)
            continue
        items = texts[position : position + length]
        position += length
        result.append("{" + ",".join(map(array_item, items)) + "}")
    return result


def array_item(text):
    if text is None:
        return "NULL"
    special = not text or text.upper() == "NULL" or any(c in '{},"\\ \t\n\r\v\f' for c in text)
    if not special:
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# --- COPY text -------------------------------------------------------------------------------

ESCAPES = {
    b"b": b"\b",
    b"f": b"\f",
    b"n": b"\n",
    b"r": b"\r",
    b"t": b"\t",
    b"v": b"\v",
    b"\\": b"\\",
}


def copy_fields(line):
    """One line of COPY TO STDOUT (text format, without the newline) as str or None per column."""
    return [copy_field(raw) for raw in line.split(b"\t")]


def copy_field(raw):
    if raw == b"\\N":
        return None
    if b"\\" not in raw:
        return raw.decode()
    parts = []
    rest = raw
    while True:
        before, backslash, after = rest.partition(b"\\")
        parts.append(before)
        if not backslash:
            return b"".join(parts).decode()
        parts.append(ESCAPES[after[:1]])
        rest = after[1:]
