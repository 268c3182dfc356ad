//! The macro by which a table of keys is declared once: struct, decoder and documentation.

/// Declares raw tables. Every key is optional in the struct; a key whose default is `"required"` is reported when
/// absent. `in A, B` bounds numbers (durations in milliseconds, sizes in bytes) and the length of texts and lists.
macro_rules! tables {
    ($(
        $(#[doc = $about:literal])+
        $name:ident as $title:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty = $default:literal $(in $min:expr, $max:expr)?;
            )+
        }
    )+) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone)]
        pub(crate) struct $name {
            /// Where the table stands. Not every table is pointed at as a whole.
            #[allow(dead_code)]
            pub(crate) span: $crate::source::Span,
            /// No error was found inside; checks across keys make sense only then.
            pub(crate) clean: bool,
            $( $(#[doc = $doc])+ pub(crate) $key: Option<$type>, )+
        }

        impl $crate::raw::read::Raw for $name {
            fn shape(_: $crate::raw::read::Bound) -> $crate::raw::shape::Shape {
                $crate::raw::shape::Shape::Table($crate::raw::shape::TableShape {
                    title: $title,
                    about: concat!($($about, "\n"),+),
                    keys: vec![$( $crate::raw::shape::KeyShape {
                        key: stringify!($key),
                        doc: concat!($($doc, "\n"),+),
                        default: $default,
                        shape: <$type as $crate::raw::read::Raw>::shape(tables!(@bound $type $(, $min, $max)?)),
                    } ),+],
                })
            }

            fn read(
                node: &$crate::tree::Node,
                _: $crate::raw::read::Bound,
                report: &mut $crate::diagnostic::Report<'_>,
            ) -> Option<Self> {
                const KEYS: &[(&str, bool)] = &[$( (stringify!($key), $crate::raw::table::is_required($default)) ),+];
                let entries = $crate::raw::table::entries(node, $title, KEYS, report)?;
                let before = report.errors();
                let missing = $crate::raw::table::missing(node, entries, $title, KEYS, report);
                let mut raw = Self { span: node.span, clean: true, $( $key: None ),+ };
                for entry in entries {
                    match entry.key.as_str() {
                        $( stringify!($key) => {
                            let bound = tables!(@bound $type $(, $min, $max)?);
                            raw.$key = <$type as $crate::raw::read::Raw>::read(&entry.node, bound, report);
                        } )+
                        _ => $crate::raw::table::unknown_key(entry, $title, KEYS, report),
                    }
                }
                raw.clean = !missing && report.errors() == before;
                Some(raw)
            }
        }
    )+};
    (@bound $type:ty) => { <$type as $crate::raw::read::Raw>::BOUND };
    (@bound $type:ty, $min:expr, $max:expr) => { $crate::raw::read::Bound { min: $min, max: $max } };
}

pub(crate) use tables;
