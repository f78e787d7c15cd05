//! Tables, numbers and colours.

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, LineStyle, Table, TableStyle};

/// Widest line of a table.
pub const WIDTH: u16 = 100;

/// A line below the headings, and none between columns, where room is scarce.
const LINES: TableStyle = TableStyle::new().header_separator(LineStyle::none().fill('─'));

/// Whether colours and weights of type are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Plain text, for files and pipes.
    #[default]
    Plain,
    /// Colours, for terminals.
    Coloured,
}

impl Style {
    /// An empty table with these headings; those that begin with `>` are for numbers, which stand at the right.
    pub(crate) fn table(self, headings: &[&str]) -> Table {
        let mut table = Table::new();
        table.load_style(LINES);
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
        if self == Self::Coloured {
            table.enforce_styling();
        } else {
            table.force_no_tty();
        }
        table.set_header(headings.iter().map(|heading| self.strong(heading.trim_start_matches('>'))));
        let numeric = headings.iter().enumerate().filter(|(_, heading)| heading.starts_with('>'));
        for (index, _) in numeric {
            if let Some(column) = table.column_mut(index) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    /// A table whose first column holds names: where the lines would be too long, names are shortened.
    pub(crate) fn named_table<const N: usize>(self, headings: [&str; N], rows: Vec<(Weight, [String; N])>) -> Table {
        const MIN_NAME: usize = 14;
        let width = |column: usize| {
            let heading = headings[column].trim_start_matches('>').chars().count();
            rows.iter().map(|(_, cells)| cells[column].chars().count()).fold(heading, usize::max)
        };
        let others: usize = (1..N).map(width).sum();
        // Each cell has a space at both sides.
        let fits = usize::from(WIDTH).saturating_sub(others + 2 * N).max(MIN_NAME);
        let mut table = self.table(&headings);
        table.set_content_arrangement(ContentArrangement::Disabled);
        for (weight, mut cells) in rows {
            cells[0] = shortened(&cells[0], fits);
            table.add_row(cells.map(|cell| match weight {
                Weight::Plain => Cell::new(cell),
                Weight::Strong => self.strong(cell),
                Weight::Faint => self.faint(cell),
            }));
        }
        table
    }

    /// What stands out.
    pub(crate) fn strong(self, text: impl ToString) -> Cell {
        let cell = Cell::new(text);
        if self == Self::Coloured { cell.add_attribute(Attribute::Bold) } else { cell }
    }

    /// What stands back.
    pub(crate) fn faint(self, text: impl ToString) -> Cell {
        let cell = Cell::new(text);
        if self == Self::Coloured { cell.add_attribute(Attribute::Dim) } else { cell }
    }

    /// What is good news, or bad.
    pub(crate) fn verdict(self, text: impl ToString, is_good: bool) -> Cell {
        let cell = Cell::new(text);
        let color = if is_good { Color::Green } else { Color::Red };
        if self == Self::Coloured { cell.fg(color) } else { cell }
    }
}

/// How much a row of a table stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// As text does.
    Plain,
    /// More.
    Strong,
    /// Less.
    Faint,
}

/// A number with its thousands apart: `1,725,664`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A shape: `500×800`; a scalar has none.
pub fn shape(lengths: &[usize]) -> String {
    lengths.iter().map(usize::to_string).collect::<Vec<_>>().join("×")
}

/// A share of a whole, in percent with one digit.
pub fn share(part: u64, whole: u64) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

/// A long name, cut in the middle so that both ends can be read.
pub fn shortened(name: &str, width: usize) -> String {
    let characters: Vec<char> = name.chars().collect();
    if characters.len() <= width {
        return name.to_owned();
    }
    let tail = (width.saturating_sub(1)) * 2 / 3;
    let head = width.saturating_sub(1) - tail;
    let start: String = characters.iter().take(head).collect();
    let end: String = characters.iter().skip(characters.len() - tail).collect();
    format!("{start}…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_725_664, "1,725,664")] {
            assert_eq!(grouped(number), text);
        }
    }

    #[test]
    fn tables_with_long_names_keep_to_the_width() {
        let row = |name: &str| (Weight::Plain, [name.to_owned(), "x".repeat(70)]);
        let table = Style::Plain.named_table(["name", "other"], vec![row(&"n".repeat(60)), row("short")]);
        assert!(table.lines().all(|line| line.chars().count() <= usize::from(WIDTH)), "{table}");
        assert_eq!(table.lines().count(), 4, "{table}");
    }

    #[test]
    fn long_names_keep_both_ends_and_their_width() {
        assert_eq!(shortened("conv1.weight", 12), "conv1.weight");
        let short = shortened("features.denseblock4.denselayer16.conv2.weight", 20);
        assert_eq!(short.chars().count(), 20);
        assert!(short.starts_with("featur") && short.ends_with("conv2.weight"), "{short}");
    }
}
