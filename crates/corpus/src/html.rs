//! The text of a page of HTML, as a reader sees it, and what the page says about itself.
//!
//! The tokenizer is that of the HTML standard (`html5gum`). Of the standard's tree, only the open elements are kept, at most
//! [`MAX_DEPTH`] of them as in browsers, so that a page takes time and memory by its length, whatever is nested in it.

use html5gum::Tokenizer;
use html5gum::emitters::callback::{CallbackEmitter, CallbackEvent};
use serde_json::Value;

use crate::rows::Fields;

/// Elements inside each other; what lies deeper counts to the deepest of them.
const MAX_DEPTH: usize = 512;

/// The fields of a page: `text`, `title`, `lang`, and each `<meta>` by its name.
///
/// The text is that of `<main>` where there is one, else that of the `<article>` where there is just one, else of all
/// that is neither navigation nor form, nor the head or foot of the page.
pub(crate) fn page_fields(html: &str) -> Fields {
    let mut page = Page::default();
    let mut emitter = CallbackEmitter::<_, std::convert::Infallible>::new(|event: CallbackEvent<'_>, _| {
        page.see(event);
        None
    });
    emitter.naively_switch_states(true);
    // Text that is in memory cannot fail to be read.
    let Ok(()) = Tokenizer::new_with_emitter(html, emitter).finish();
    page.into_fields()
}

#[derive(Default)]
struct Page {
    fields: Fields,
    /// The start tag that is being read.
    tag: Tag,
    open: Vec<Element>,
    /// Elements that are open beyond the deepest that is kept.
    num_deeper: usize,
    /// Open elements whose text is left out; that are heads, feet or asides of the page; `<main>`; `<article>`.
    num_left_out: usize,
    num_around: usize,
    num_main: usize,
    num_article: usize,
    num_articles_seen: usize,
    title: String,
    main: Text,
    article: Text,
    all: Text,
}

#[derive(Default)]
struct Tag {
    name: String,
    attributes: Vec<(String, String)>,
}

struct Element {
    name: String,
    is_left_out: bool,
    is_around: bool,
    /// Of a row of a table.
    num_cells: usize,
}

impl Page {
    fn see(&mut self, event: CallbackEvent<'_>) {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match event {
            CallbackEvent::OpenStartTag { name } => self.tag = Tag { name: text(name), attributes: Vec::new() },
            CallbackEvent::AttributeName { name } => self.tag.attributes.push((text(name), String::new())),
            CallbackEvent::AttributeValue { value } => {
                if let Some((_, last)) = self.tag.attributes.last_mut() {
                    *last = text(value);
                }
            }
            CallbackEvent::CloseStartTag { self_closing } => {
                let tag = std::mem::take(&mut self.tag);
                self.start(tag, self_closing);
            }
            CallbackEvent::EndTag { name } => self.end(&text(name)),
            CallbackEvent::String { value } => self.put(&String::from_utf8_lossy(value)),
            CallbackEvent::Comment { .. } | CallbackEvent::Doctype { .. } | CallbackEvent::Error(_) => {}
        }
    }

    fn start(&mut self, tag: Tag, is_closed: bool) {
        self.note(&tag);
        self.close_implied(&tag.name);
        let name = &*tag.name;
        match name {
            "br" => self.each_text(Text::line_end),
            "hr" => self.each_text(|text| text.set_off(2)),
            "td" | "th" => {
                let row = self.open.iter_mut().rev().find(|own| matches!(&*own.name, "tr" | "table"));
                let is_first = row.is_none_or(|row| std::mem::replace(&mut row.num_cells, 1) == 0);
                self.each_text(|text| text.cell(is_first));
            }
            "li" => self.each_text(Text::item),
            _ => self.each_text(|text| text.set_off(lines_around(name))),
        }
        if is_void(name) || (is_closed && self.num_left_out > 0) {
            return;
        }
        if self.open.len() == MAX_DEPTH {
            self.num_deeper += 1;
            return;
        }
        let is_left_out = is_left_out(name) || tag.is_hidden();
        let is_content = self.num_main + self.num_article > 0;
        let is_around = matches!(name, "header" | "footer" | "aside") && !is_content;
        self.num_left_out += usize::from(is_left_out);
        self.num_around += usize::from(is_around);
        self.num_main += usize::from(name == "main");
        self.num_article += usize::from(name == "article");
        self.num_articles_seen += usize::from(name == "article" && self.num_left_out == 0);
        self.open.push(Element { name: tag.name, is_left_out, is_around, num_cells: 0 });
    }

    /// Takes note of what the page says about itself.
    fn note(&mut self, tag: &Tag) {
        let (key, value) = match &*tag.name {
            "html" => (Some("lang"), tag.value("lang")),
            "meta" => (tag.value("name").or(tag.value("property")), tag.value("content")),
            _ => return,
        };
        if let (Some(key), Some(value)) = (key, value.map(str::trim).filter(|value| !value.is_empty())) {
            self.fields.entry(key.trim().to_lowercase()).or_insert_with(|| Value::String(value.to_owned()));
        }
    }

    /// Closes what the standard lets a page leave open before an element of this name.
    fn close_implied(&mut self, name: &str) {
        let (closed, within): (&[&str], &[&str]) = match name {
            "li" => (&["li"], &["ul", "ol", "menu", "table"]),
            "dt" | "dd" => (&["dt", "dd"], &["dl", "table"]),
            "td" | "th" => (&["td", "th"], &["tr", "table"]),
            "tr" | "thead" | "tbody" | "tfoot" => (&["tr"], &["table"]),
            _ => (&[], &[]),
        };
        self.close(|own| closed.contains(&own), |own| within.contains(&own));
        if lines_around(name) > 0 {
            self.close(|own| own == "p", |own| matches!(own, "td" | "th" | "table" | "caption" | "button" | "object"));
        }
    }

    fn end(&mut self, name: &str) {
        if self.num_deeper > 0 {
            self.num_deeper -= 1;
            return;
        }
        let is_of_table = matches!(name, "table" | "thead" | "tbody" | "tfoot" | "tr" | "td" | "th" | "caption");
        let is_block = is_of_table || lines_around(name) > 0 || is_left_out(name);
        let stops = |own: &str| match own {
            "table" | "td" | "th" => !is_of_table,
            own => !is_block && lines_around(own) > 0,
        };
        self.close(|own| own == name, stops);
        if name == "p" {
            // One that closes nothing is an empty paragraph.
            self.each_text(|text| text.set_off(2));
        }
    }

    /// Closes the innermost open element that is meant, with all in it; none beyond one that `stops` the search.
    fn close(&mut self, is_meant: impl Fn(&str) -> bool, stops: impl Fn(&str) -> bool) {
        let found = self.open.iter().rposition(|own| is_meant(&own.name) || stops(&own.name));
        let Some(idx) = found.filter(|idx| is_meant(&self.open[*idx].name)) else { return };
        while self.open.len() > idx {
            let Some(element) = self.open.pop() else { return };
            match &*element.name {
                "tr" => self.each_text(Text::row_end),
                "td" | "th" => {}
                name => self.each_text(|text| text.set_off(lines_around(name))),
            }
            self.num_left_out -= usize::from(element.is_left_out);
            self.num_around -= usize::from(element.is_around);
            self.num_main -= usize::from(element.name == "main");
            self.num_article -= usize::from(element.name == "article");
        }
    }

    fn put(&mut self, text: &str) {
        let is_title = self.open.last().is_some_and(|own| own.name == "title");
        if is_title && self.num_left_out == 1 && self.title.is_empty() {
            self.title = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        }
        let is_pre = self.open.iter().any(|own| own.name == "pre");
        self.each_text(|own| if is_pre { own.put_pre(text) } else { own.put(text) });
    }

    /// Does something to each text that goes on here.
    fn each_text(&mut self, act: impl Fn(&mut Text)) {
        if self.num_left_out > 0 {
            return;
        }
        if self.num_main > 0 {
            act(&mut self.main);
        }
        if self.num_article > 0 {
            act(&mut self.article);
        }
        if self.num_around == 0 {
            act(&mut self.all);
        }
    }

    fn into_fields(self) -> Fields {
        let article = if self.num_articles_seen == 1 { self.article } else { Text::default() };
        let texts = [self.main.text, article.text, self.all.text];
        let text = texts.into_iter().find(|text| !text.trim().is_empty()).unwrap_or_default();
        let mut fields = self.fields;
        if !self.title.is_empty() {
            fields.insert("title".to_owned(), Value::String(self.title));
        }
        fields.insert("text".to_owned(), Value::String(text));
        fields
    }
}

impl Tag {
    fn value(&self, name: &str) -> Option<&str> {
        self.attributes.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    fn is_hidden(&self) -> bool {
        self.value("hidden").is_some() || self.value("aria-hidden").is_some_and(|value| value.trim() == "true")
    }
}

/// Text that grows; what separates it waits until more follows.
#[derive(Default)]
struct Text {
    text: String,
    num_lines: usize,
    num_tabs: usize,
    has_space: bool,
    has_bullet: bool,
    /// Whether a cell of a table has begun and is empty: it breaks no line then.
    in_new_cell: bool,
}

impl Text {
    /// Sets off what follows by so many line ends.
    fn set_off(&mut self, num_lines: usize) {
        if !self.in_new_cell {
            self.num_lines = self.num_lines.max(num_lines);
        }
    }

    fn line_end(&mut self) {
        if !self.in_new_cell {
            self.num_lines = (self.num_lines + 1).min(2);
        }
    }

    fn item(&mut self) {
        self.set_off(1);
        self.has_bullet = true;
    }

    fn cell(&mut self, is_first: bool) {
        if !is_first {
            (self.num_lines, self.has_space) = (0, false);
            self.num_tabs += 1;
        }
        self.in_new_cell = true;
    }

    fn row_end(&mut self) {
        (self.num_lines, self.num_tabs, self.in_new_cell) = (1, 0, false);
    }

    /// Text in which white space is one space, as a browser shows it.
    fn put(&mut self, text: &str) {
        let is_space = |char: char| char.is_ascii_whitespace();
        self.has_space |= text.starts_with(is_space);
        for word in text.split_ascii_whitespace() {
            self.separate();
            self.text.push_str(word);
            self.has_space = true;
        }
        self.has_space = text.ends_with(is_space) || (self.has_space && text.trim_ascii().is_empty());
    }

    /// Text in which white space is what it is.
    fn put_pre(&mut self, text: &str) {
        let text = if self.num_lines > 0 { text.trim_start_matches('\n') } else { text };
        if !text.is_empty() {
            self.separate();
            self.text.push_str(text);
        }
    }

    fn separate(&mut self) {
        let (num_lines, num_tabs) = (std::mem::take(&mut self.num_lines), std::mem::take(&mut self.num_tabs));
        let has_space = std::mem::take(&mut self.has_space);
        self.in_new_cell = false;
        if num_lines > 0 {
            self.text.truncate(self.text.trim_end().len());
        }
        if !self.text.is_empty() {
            (0..num_lines).for_each(|_| self.text.push('\n'));
            (0..num_tabs).for_each(|_| self.text.push('\t'));
            if has_space && num_lines + num_tabs == 0 {
                self.text.push(' ');
            }
        }
        if std::mem::take(&mut self.has_bullet) {
            self.text.push_str("- ");
        }
    }
}

/// Line ends that set an element off from what is around it: none within a line.
fn lines_around(name: &str) -> usize {
    match name {
        "article" | "blockquote" | "dl" | "fieldset" | "figure" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "hr"
        | "main" | "menu" | "ol" | "p" | "pre" | "section" | "table" | "ul" => 2,
        "address" | "aside" | "body" | "caption" | "center" | "dd" | "details" | "dialog" | "div" | "dt"
        | "figcaption" | "footer" | "form" | "head" | "header" | "hgroup" | "html" | "legend" | "li" | "nav"
        | "search" | "summary" | "tr" => 1,
        _ => 0,
    }
}

fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "param"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Elements that hold no text of the page.
fn is_left_out(name: &str) -> bool {
    matches!(
        name,
        "audio"
            | "button"
            | "canvas"
            | "datalist"
            | "form"
            | "iframe"
            | "nav"
            | "noembed"
            | "noframes"
            | "noscript"
            | "object"
            | "script"
            | "select"
            | "style"
            | "svg"
            | "template"
            | "textarea"
            | "title"
            | "video"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(html: &str, expected: &str) {
        assert_eq!(page_fields(html)["text"], *expected, "{html}");
    }

    #[test]
    fn white_space_and_blocks_are_as_a_browser_shows_them() {
        check(
            "<p>one\n  <b>two</b>,<i> three </i> four<p>five<br>six &amp; &lt;7&gt; &#8364;&eacute;",
            "one two, three four\n\nfive\nsix & <7> €é",
        );
        check("<div>a<div>b</div>c</div><h1> d </h1>e", "a\nb\nc\n\nd\n\ne");
        check("<ul><li>a<li><p>b</p><ul><li>c</ul></ul>d", "- a\n\n- b\n\n- c\n\nd");
        check("x<pre>\n  if a:\n\n    b &amp; <b>c</b>\n</pre>y", "x\n\n  if a:\n\n    b & c\n\ny");
        check(
            "<table><tr><th>a<th>b</tr><tr><td><p>1</p></td><td></td><td><div>3</div></td></tr></table>z",
            "a\tb\n1\t\t3\n\nz",
        );
    }

    #[test]
    fn only_what_the_page_is_about_is_taken() {
        let around = "<nav>menu</nav><header>head</header><form>search</form><script>if (a < b) '</p>'</script>";
        check(&format!("{around}<p>text</p><aside>ad</aside><footer>foot</footer>"), "text");
        check(&format!("{around}<article><header>by A</header>one</article>out<footer>foot</footer>"), "by A\none");
        check(&format!("{around}<article>one</article><article>two</article>"), "one\n\ntwo");
        check(&format!("{around}<p>out<main><aside>note</aside><p>in</main>out"), "note\n\nin");
        check(&format!("{around}<main> </main><p>no main text"), "no main text");
        let hidden = "<p hidden>a<div>b</div><span aria-hidden=true>c<span>d</span>e</span>\
                      <noscript>f</noscript><svg><title>g</title><path/></svg>";
        check(&format!("{hidden}<template>h</template>i</p>j"), "b\ni\n\nj");
        check("<p>a</div></span>b</nav><nav>x</div>y</nav>c", "ab\n\nc");
    }

    #[test]
    fn what_a_page_says_about_itself_are_fields() {
        let page = "<!DOCTYPE html><html lang=de><title> A &amp;\n B </title><meta name=Date content='2020-01-02'>\
                    <meta property='og:type' content=article><meta charset=utf-8><body>x";
        let fields = page_fields(page);
        let all: Vec<_> = fields.iter().map(|(name, value)| (&**name, value.as_str().unwrap())).collect();
        let expected =
            [("lang", "de"), ("date", "2020-01-02"), ("og:type", "article"), ("title", "A & B"), ("text", "x")];
        assert_eq!(all, expected);
    }

    #[test]
    fn hostile_pages_take_time_and_memory_by_their_length() {
        let deep = |open: &str, num: usize| format!("{}x", open.repeat(num));
        check(&deep("<div>", 1_000_000), "x");
        check(&deep("<b><p><table><tr><td>", 200_000), "x");
        check(&format!("{}{}y", deep("<div>", 10_000), "</div>".repeat(10_000)), "x\ny");
        check(&"</p></td></b>".repeat(300_000), "");
        check(&format!("<p {}>x", "a=b ".repeat(100_000)), "x");
        check(&"<".repeat(1_000_000), &"<".repeat(1_000_000));
    }
}
