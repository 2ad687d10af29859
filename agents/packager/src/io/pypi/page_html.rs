//! Project pages in their HTML form (PEP 503, 592, 658): one link per file.

use html5gum::{StartTag, Token, Tokenizer};
use url::Url;

use super::page::{Collect, Listed, add_hash, address_of};

/// Reads the links of a page. The error says why it is no page of an index.
pub(super) fn parse(bytes: &[u8], address: &Url, builder: &mut dyn Collect) -> Result<(), String> {
    let mut base: Option<Url> = None;
    let (mut tags, mut links) = (0_usize, 0_usize);
    for token in Tokenizer::new(bytes) {
        let token = match token {
            Ok(token) => token,
            Err(never) => match never {},
        };
        let Token::StartTag(tag) = token else { continue };
        tags += 1;
        match &**tag.name {
            // Only the first one counts in a browser.
            b"base" if base.is_none() => {
                base = attribute(&tag, "href").and_then(|href| address.join(href.trim()).ok());
            }
            b"a" => {
                links += 1;
                if let Some(listed) = read_link(&tag, base.as_ref().unwrap_or(address)) {
                    builder.add(listed);
                }
            }
            _ => {}
        }
    }
    // A project without files has an empty page, but a page; a log-in form has links to elsewhere.
    if tags == 0 {
        return Err("it is not a page".to_owned());
    }
    if links > 0
        && builder.is_empty()
        && !contains(bytes, b".whl")
        && !contains(bytes, b".tar")
        && !contains(bytes, b".zip")
    {
        return Err("none of its links leads to a file of a package".to_owned());
    }
    Ok(())
}

fn read_link(tag: &StartTag<()>, base: &Url) -> Option<Listed> {
    let mut listed = Listed::default();
    let href = attribute(tag, "href")?;
    let url = address_of(href.trim(), base, &mut listed.hashes)?;
    let last = url.split('?').next()?.rsplit('/').next()?;
    listed.name = percent_encoding::percent_decode_str(last).decode_utf8().ok()?.into_owned();
    listed.url = url;
    listed.requires_python =
        attribute(tag, "data-requires-python").map(|text| text.trim().to_owned());
    listed.yanked = attribute(tag, "data-yanked");
    listed.published = attribute(tag, "data-upload-time").filter(|text| !text.is_empty());
    let advertised =
        attribute(tag, "data-core-metadata").or_else(|| attribute(tag, "data-dist-info-metadata"));
    if let Some(text) = advertised {
        listed.core_metadata = Some(!text.eq_ignore_ascii_case("false"));
        if let Some((algorithm, digest)) = text.split_once('=') {
            add_hash(&mut listed.core_metadata_hashes, algorithm, digest);
        }
    }
    Some(listed)
}

/// The value of an attribute, entities already decoded.
fn attribute(tag: &StartTag<()>, name: &str) -> Option<String> {
    let value = tag.attributes.get(name.as_bytes())?;
    Some(String::from_utf8_lossy(value).into_owned())
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
