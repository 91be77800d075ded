//! A messy folder of documents: what can be read is, and what cannot be says why.

use std::fmt::Write;

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
    let mut file = "%PDF-1.4\n".to_owned();
    let mut table = "0000000000 65535 f \n".to_owned();
    for (idx, object) in objects.iter().enumerate() {
        writeln!(table, "{:010} 00000 n ", file.len()).unwrap();
        writeln!(file, "{} 0 obj\n{object}\nendobj", idx + 1).unwrap();
    }
    let (start, size) = (file.len(), objects.len() + 1);
    write!(file, "xref\n0 {size}\n{table}trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{start}\n%%EOF\n").unwrap();
    file.into_bytes()
}

const SHEET: &str = "/MediaBox [0 0 612 792]";

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
