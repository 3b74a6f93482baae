"""The expected texts were taken from psql on PostgreSQL 15."""

import datetime
import decimal
import pathlib
import tempfile
import unittest
import uuid

import compare
import pgtext
import pyarrow as pa
import pyarrow.parquet as pq


def texts(values, arrow_type, pg_type, encoding="native"):
    return pgtext.column_texts(pa.array(values, arrow_type), pg_type, encoding)


class Scalars(unittest.TestCase):
    def check(self, arrow_type, pg_type, cases, encoding="native"):
        self.assertEqual(texts([value for value, _ in cases], arrow_type, pg_type, encoding), [t for _, t in cases])

    def test_null_of_every_type_is_none(self):
        for arrow_type in (pa.bool_(), pa.int64(), pa.float64(), pa.decimal128(9, 2), pa.string(), pa.date32()):
            self.assertEqual(texts([None], arrow_type, "x"), [None])

    def test_bool(self):
        self.check(pa.bool_(), "boolean", [(True, "t"), (False, "f")])

    def test_integers_at_their_limits(self):
        self.check(pa.int16(), "smallint", [(-32768, "-32768"), (32767, "32767")])
        self.check(pa.int32(), "integer", [(-(2**31), "-2147483648")])
        self.check(pa.int64(), "bigint", [(2**63 - 1, "9223372036854775807")])

    def test_float8_switches_to_an_exponent_where_postgresql_does(self):
        cases = [
            (0.30000000000000004, "0.30000000000000004"),
            (1.0, "1"),
            (-0.0, "-0"),
            (1e14, "100000000000000"),
            (1e15, "1e+15"),
            (123456789012345.6, "123456789012345.6"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (float("nan"), "NaN"),
            (float("-inf"), "-Infinity"),
        ]
        self.check(pa.float64(), "double precision", cases)

    def test_float4_has_its_own_digits_and_limit(self):
        cases = [(0.1, "0.1"), (100000.0, "100000"), (1e6, "1e+06"), (16777216.0, "1.6777216e+07"), (1e-45, "1e-45")]
        self.check(pa.float32(), "real", cases)

    def test_numeric_keeps_its_scale(self):
        value = decimal.Decimal
        wide = "-1234567890123456789012345678.0000000001"
        cases = [(value("1.5"), "1.5000000000"), (value("1E-10"), "0.0000000001"), (value(wide), wide)]
        self.check(pa.decimal128(38, 10), "numeric(38,10)", cases)
        self.check(pa.decimal128(5, 0), "numeric(5,0)", [(value("-99999"), "-99999")])

    def test_strings_and_text_encoding_pass_through(self):
        self.check(pa.string(), "text", [("é☃🙂\n\\", "é☃🙂\n\\"), ("", "")])
        self.check(pa.large_string(), "inet", [("10.0.0.1/8", "10.0.0.1/8")], "text")
        with self.assertRaises(ValueError):
            texts([1], pa.int32(), "integer", "text")

    def test_json_extension_type_is_its_text(self):
        storage = pa.array(['{"a": 1e400}', None], pa.string())
        array = pa.ExtensionArray.from_storage(pa.json_(pa.string()), storage)
        self.assertEqual(pgtext.column_texts(array, "jsonb", "native"), ['{"a": 1e400}', None])

    def test_bytea(self):
        self.check(pa.binary(), "bytea", [(b"", "\\x"), (b"\x00\xff", "\\x00ff")])

    def test_uuid(self):
        value = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")
        self.check(pa.binary(16), "uuid", [(value.bytes, str(value))])

    def test_date_before_christ_after_9999_and_infinite(self):
        cases = [
            (-719163, "0001-12-31 BC"),
            (-2440550, "4713-01-01 BC"),
            (2145042905, "5874897-12-31"),
            (11016, "2000-02-29"),
            (2**31 - 1, "infinity"),
            (-(2**31), "-infinity"),
        ]
        array = pa.array([days for days, _ in cases], pa.int32()).view(pa.date32())
        self.assertEqual(pgtext.column_texts(array, "date", "native"), [t for _, t in cases])

    def test_timestamps(self):
        cases = [(0, "1970-01-01 00:00:00"), (-1, "1969-12-31 23:59:59.999999"), (2**63 - 1, "infinity")]
        self.check(pa.timestamp("us"), "timestamp", cases)
        cases = [(1_500_000, "1970-01-01 00:00:01.5+00"), (-(2**63), "-infinity")]
        self.check(pa.timestamp("us", "UTC"), "timestamptz", cases)
        self.assertEqual(pgtext.timestamp_text(-62_135_596_800_000_001, "+00"), "0001-12-31 23:59:59.999999+00 BC")
        with self.assertRaises(ValueError):
            texts([0], pa.timestamp("us", "Europe/Paris"), "timestamptz")

    def test_time(self):
        self.check(pa.time64("us"), "time", [(datetime.time(1, 2, 3, 450000), "01:02:03.45")])
        self.assertEqual(pgtext.time_text(86_400_000_000), "24:00:00")

    def test_an_unknown_arrow_type_is_an_error(self):
        with self.assertRaises(ValueError):
            texts([{"a": 1}], pa.struct([("a", pa.int32())]), "x")


class Arrays(unittest.TestCase):
    def test_items_are_quoted_where_postgresql_quotes(self):
        items = [None, "", "a", "null", "a b", "a,b", "{", '"', "\\", "é", "\u00a0"]
        self.assertEqual(
            texts([items, [], None], pa.list_(pa.string()), "text[]"),
            ['{NULL,"",a,"null","a b","a,b","{","\\"","\\\\",é,\u00a0}', "{}", None],
        )

    def test_items_have_their_own_type(self):
        self.assertEqual(texts([[True, None]], pa.list_(pa.bool_()), "boolean[]"), ["{t,NULL}"])
        self.assertEqual(texts([[b"\x01"]], pa.list_(pa.binary()), "_bytea"), ['{"\\\\x01"}'])
        self.assertEqual(
            texts([[0]], pa.list_(pa.timestamp("us")), "timestamp[]"), ['{"1970-01-01 00:00:00"}']
        )

    def test_slices_do_not_shift_items(self):
        array = pa.array([[1], [2, 3], None, [4]], pa.list_(pa.int32())).slice(1)
        self.assertEqual(pgtext.column_texts(array, "integer[]", "native"), ["{2,3}", None, "{4}"])


class Floats(unittest.TestCase):
    def test_two_texts_of_one_value_become_one(self):
        canonical = pgtext.canonical_float("real")
        self.assertEqual(canonical("-1.22517504e+08"), canonical("-1.225175e+08"))
        self.assertNotEqual(canonical("0.1"), canonical("0.10000001"))
        self.assertEqual(pgtext.canonical_float("float8[]")("{1,NULL,2.50}"), "{1,NULL,2.5}")
        self.assertEqual(pgtext.canonical_float("float8[]")("[0:0]={2.50}"), "[0:0]={2.50}")
        self.assertIsNone(pgtext.canonical_float("numeric"))


class CopyText(unittest.TestCase):
    def test_fields(self):
        self.assertEqual(
            pgtext.copy_fields(rb"1	\N		a\tb\nc\\N	\\x00ff"), ["1", None, "", "a\tb\nc\\N", "\\x00ff"]
        )


class Companions(unittest.TestCase):
    """A part as the exporter lays it out: the neat column is NULL where only text is exact."""

    def rows(self, neat, exact):
        meta = {"arkstream.pg_type": "numeric(10,2)", "arkstream.encoding": "native"}
        schema = pa.schema(
            [
                pa.field("n", pa.decimal128(10, 2), metadata=meta),
                pa.field("n__text", pa.string(), metadata={"arkstream.companion_of": "n"}),
            ]
        )
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "part.parquet"
            pq.write_table(pa.table([neat, exact], schema=schema), path)
            return list(compare.bundle_rows([path]))

    def test_the_text_stands_for_a_null(self):
        one = decimal.Decimal("1.50")
        self.assertEqual(self.rows([one, None, None], [None, "NaN", None]), [("1.50",), ("NaN",), (None,)])

    def test_two_values_in_one_place_are_refused(self):
        with self.assertRaises(compare.Mismatch):
            self.rows([decimal.Decimal("1.50")], ["1.50"])

    def test_rows_that_differ_only_in_where_a_text_ends_have_other_digests(self):
        self.assertNotEqual(compare.digest(("ab", "c")), compare.digest(("a", "bc")))
        self.assertNotEqual(compare.digest((None,)), compare.digest(("",)))


if __name__ == "__main__":
    unittest.main()
