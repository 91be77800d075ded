//! A messy folder of documents: what can be read is, and what cannot be says why.

use std::fmt::Write;
use std::io::Read;

use crate::domain::Domain;

/// A PDF of these pages, each a list of lines; `extra` goes into the dictionary of every page.
fn pdf(pages: &[&[&str]], extra: &str) -> Vec<u8> {
    let kids: Vec<String> = (0..pages.len()).map(|idx| format!("{} 0 R", 4 + 2 * idx)).collect();
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        format!("<< /Type /Pages /Kids [{}] /Count {} >>", kids.join(" "), pages.len()),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
    ];
    for (idx, lines) in pages.iter().enumerate() {
        let content = 5 + 2 * idx;
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /Resources << /Font << /F1 3 0 R >> >> /Contents {content} 0 R {extra} >>"
        ));
        let shown: Vec<String> = lines.iter().map(|line| format!("({line}) Tj 0 -14 Td")).collect();
        let text = format!("BT /F1 12 Tf 72 700 Td {} ET", shown.join(" "));
        objects.push(format!("<< /Length {} >>\nstream\n{text}\nendstream", text.len()));
    }
    pdf_of(&objects.into_iter().map(String::into_bytes).collect::<Vec<_>>())
}

fn pdf_of(objects: &[Vec<u8>]) -> Vec<u8> {
    let mut file = b"%PDF-1.4\n".to_vec();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (idx, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", file.len()).unwrap();
        file.extend([format!("{} 0 obj\n", idx + 1).as_bytes(), object, b"\nendobj\n"].concat());
    }
    let (start, size) = (file.len(), objects.len() + 1);
    let end = format!("xref\n0 {size}\n{table}trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n");
    [file, end.into_bytes()].concat()
}

fn stream(dictionary: &str, content: &[u8]) -> Vec<u8> {
    let head = format!("<< {dictionary} /Length {} >>\nstream\n", content.len());
    [head.as_bytes(), content, b"\nendstream"].concat()
}

/// A page whose content is packed 4 GiB.
fn pdf_bomb() -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::repeat(b' ').take(4 << 30), &mut encoder).unwrap();
    let page = "<< /Type /Page /Parent 2 0 R /Resources << >> /MediaBox [0 0 612 792] /Contents 4 0 R >>";
    pdf_of(&[
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        page.as_bytes().to_vec(),
        stream("/Filter /FlateDecode", &encoder.finish().unwrap()),
    ])
}

/// A page that draws a form ten times, which draws another ten times, and so on: 10 to the power of 12 words.
fn pdf_laughs() -> Vec<u8> {
    const LEVELS: usize = 12;
    let font = "/Font << /F1 4 0 R >>";
    let page = format!(
        "<< /Type /Page /Parent 2 0 R /Resources << {font} /XObject << /X 6 0 R >> >> {SHEET} /Contents 5 0 R >>"
    );
    let mut objects = vec![
        b"<< /Type /Catalog /Pages 2 0 R >>".to_vec(),
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>".to_vec(),
        page.into_bytes(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_vec(),
        stream("", b"/X Do"),
    ];
    for level in 0..LEVELS {
        let next = format!("/Resources << {font} /XObject << /X {} 0 R >> >>", 7 + level);
        let form = format!("/Type /XObject /Subtype /Form /BBox [0 0 612 792] {next}");
        objects.push(stream(&form, "/X Do ".repeat(10).as_bytes()));
    }
    let last = format!("/Type /XObject /Subtype /Form /BBox [0 0 612 792] /Resources << {font} >>");
    objects.push(stream(&last, b"BT /F1 12 Tf 72 700 Td (ha) Tj ET"));
    pdf_of(&objects)
}

const SHEET: &str = "/MediaBox [0 0 612 792]";

/// Reasons and seconds for PDFs that want all memory, and all time.
#[test]
#[ignore = "takes the minute that one PDF may take"]
fn a_pdf_takes_no_more_than_its_share() {
    let domain = Domain::new();
    std::fs::create_dir(domain.path("mess")).unwrap();
    domain.write("mess/good.pdf", pdf(&[&["The pump leaks at night, under load."]], SHEET));
    for (name, bytes) in [("bomb.pdf", pdf_bomb()), ("laughs.pdf", pdf_laughs())] {
        let start = std::time::Instant::now();
        domain.write("mess/bad.pdf", bytes);
        let set = ["--set", "corpus.source.notes.path=mess", "--keep", "num_words > 1"];
        let said = domain.fails(2, &[&["data", "rules"], &set[..]].concat());
        eprintln!("{name}: {:.0} s: {said}", start.elapsed().as_secs_f64());
        assert!(said.contains("1 of 2 records cannot be used") && said.contains("`unreadable`"), "{name}: {said}");
    }
}

#[test]
fn a_messy_folder_is_read_with_a_reason_for_what_is_not() {
    let domain = Domain::new();
    std::fs::create_dir(domain.path("mess")).unwrap();
    let good = pdf(&[&["The pump leaks and needs an exam-", "ination of seal 7."], &["Page two is short."]], SHEET);
    let files: [(&str, &[u8]); 8] = [
        ("a.pdf", &good),
        ("cut.pdf", &good[..good.len() / 3]),
        ("garbage.pdf", &[0x9c; 5000]),
        // Readers of PDF stop the whole process at a page without a size, and recurse for ever in a circle.
        ("sheetless.pdf", &pdf(&[&["No page has a size here."]], "")),
        ("circle.pdf", &pdf(&[&["Page in a circle."]], "/Parent 4 0 R")),
        ("b.html", b"<title>x</title><nav>menu</nav><p>The valve rattles<br>under load, at night.</p>"),
        ("c.txt", b"Der K\xfchler l\xe4uft \xfcber, sobald die Pumpe l\xe4uft und es hei\xdf ist."),
        ("d.jsonl", b"{\"text\": \"The rotor hums on shift seven, all night.\"}\n"),
    ];
    for (name, bytes) in files {
        domain.write(&format!("mess/{name}"), bytes);
    }
    let set = ["--set", "corpus.source.notes.path=mess", "--set", "corpus.max_reject_rate=0.6"];
    let tried = |keep: &str| {
        let output =
            domain.arable(&[&["data", "rules", "--keep", keep, "--samples", "9", "--json"], &set[..]].concat());
        assert_eq!(output.status.code(), Some(0), "{}", crate::domain::text(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    let all = tried("num_words > 1000");
    assert_eq!(all["num_documents"], 4, "{all}");
    let all = all.to_string();
    for text in ["an examination of seal 7. Page two", "rattles under load", "Kühler läuft über", "rotor hums"] {
        assert!(all.contains(text), "{text}: {all}");
    }
    assert!(!all.contains("menu"), "{all}");

    let said = domain.fails(2, &["data", "rules", "--keep", "num_words > 1", "--set", set[1]]);
    assert!(said.contains("4 of 8 records cannot be used") && said.contains("`unreadable`"), "{said}");
    assert!(said.contains("mess/circle.pdf:1: not readable"), "{said}");
    let wrong = domain.fails(2, &["config", "show", "--set", "corpus.source.notes.encoding=latin-9"]);
    assert!(wrong.contains("windows-1252") && wrong.contains("got `latin-9`"), "{wrong}");
}
