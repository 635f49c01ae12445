//! Draws folded stacks as a flamegraph: one SVG with everything it needs, for any browser.
//!
//! Without its script the picture is the same, it only cannot be zoomed. The usual library for this
//! is under a licence that Ringway is not given out under; the picture is a page of code.

use std::collections::BTreeMap;
use std::fmt::Write;

const WIDTH: f64 = 1200.0;
const ROW_HEIGHT: usize = 17;
const HEADING_HEIGHT: usize = 40;
/// What is narrower is not drawn; this bounds the size of the picture.
const NARROWEST: f64 = 0.2;
/// Width of one character of the font.
const CHARACTER: f64 = 6.6;

/// Draws `stacks`: frames separated by semicolons, outermost first, and how often each was seen.
pub(super) fn draw<'a>(title: &str, stacks: impl Iterator<Item = (&'a str, u64)>) -> String {
    let mut root = Node::default();
    for (stack, count) in stacks {
        root.count += count;
        let mut node = &mut root;
        for frame in stack.split(';') {
            node = node.callees.entry(frame).or_default();
            node.count += count;
        }
    }
    let mut frames = String::new();
    let scale = WIDTH / root.count.max(1) as f64;
    let mut picture = Picture { frames: &mut frames, total: root.count, scale, depth_max: 0 };
    picture.node("all", &root, 0, 0.0);
    let height = HEADING_HEIGHT + (picture.depth_max + 1) * ROW_HEIGHT + 10;
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"monospace\" font-size=\"11\">\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"8\" y=\"16\" font-size=\"13\">{title}</text>\n\
         <text id=\"hint\" x=\"8\" y=\"32\" fill=\"#666\">click: zoom · click below: back · \
         key s: search · key Escape: forget the search</text>\n\
         {frames}<script><![CDATA[{SCRIPT}]]></script>\n</svg>\n"
    )
}

#[derive(Default)]
struct Node<'a> {
    count: u64,
    callees: BTreeMap<&'a str, Node<'a>>,
}

struct Picture<'a> {
    frames: &'a mut String,
    total: u64,
    scale: f64,
    depth_max: usize,
}

impl Picture<'_> {
    /// Draws a function, and above it what it called.
    fn node(&mut self, name: &str, node: &Node<'_>, depth: usize, x: f64) {
        let width = node.count as f64 * self.scale;
        if width < NARROWEST {
            return;
        }
        self.depth_max = self.depth_max.max(depth);
        self.frame(name, node.count, depth, x, width);
        let mut x = x;
        for (callee, node) in &node.callees {
            self.node(callee, node, depth + 1, x);
            x += node.count as f64 * self.scale;
        }
    }

    fn frame(&mut self, name: &str, count: u64, depth: usize, x: f64, width: f64) {
        let share = 100.0 * count as f64 / self.total.max(1) as f64;
        let y = HEADING_HEIGHT + depth * ROW_HEIGHT;
        let (red, green, blue) = colour(name);
        let label: String = name.chars().take((width / CHARACTER) as usize).collect();
        let (name, label) = (escape(name), escape(&label));
        let (height, baseline) = (ROW_HEIGHT - 1, y + 12);
        let text_x = x + 3.0;
        writeln!(
            self.frames,
            "<g class=\"f\"><title>{name}: {count} samples, {share:.2} %</title>\
             <rect x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{height}\" \
             fill=\"rgb({red},{green},{blue})\"/>\
             <text x=\"{text_x:.2}\" y=\"{baseline}\">{label}</text></g>"
        )
        .expect("a String takes everything");
    }
}

/// A warm colour that a function keeps from picture to picture.
fn colour(name: &str) -> (u8, u8, u8) {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let part = |shift: u32, base: u64, span: u64| (base + (hash >> shift) % span) as u8;
    (part(8, 215, 40), part(24, 110, 120), part(40, 60, 50))
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

const STYLE: &str = ".f{cursor:pointer}.f:hover rect{stroke:#000}.f text{pointer-events:none}\
                     .found rect{fill:#c6f}.out{display:none}";

/// Every frame remembers where it was drawn; a zoom computes its place anew.
const SCRIPT: &str = r#"
const W = 1200, C = 6.6;
const frames = [...document.querySelectorAll('.f')].map(g => {
  const r = g.querySelector('rect'), t = g.querySelector('text');
  const title = g.querySelector('title').textContent;
  return { g, r, t, title, name: title.replace(/: \d+ samples, [\d.]+ %$/, ''),
    x: +r.getAttribute('x'), w: +r.getAttribute('width'), y: +r.getAttribute('y') };
});
function zoom(to) {
  const k = W / to.w;
  for (const f of frames) {
    const under = f.y < to.y && f.x <= to.x + .01 && f.x + f.w >= to.x + to.w - .01;
    const x = under ? 0 : (f.x - to.x) * k, w = under ? W : f.w * k;
    const out = !under && (f.y < to.y || x < -.01 || x + w > W + .1);
    f.g.classList.toggle('out', out);
    if (out) continue;
    f.r.setAttribute('x', x); f.r.setAttribute('width', w);
    f.r.setAttribute('opacity', under ? .5 : 1);
    f.t.setAttribute('x', x + 3);
    f.t.textContent = f.name.slice(0, Math.floor(w / C));
  }
}
function search(words) {
  let share = 0, end = -1;
  for (const f of frames) f.found = !!words && f.name.includes(words);
  for (const f of [...frames].sort((a, b) => a.x - b.x || b.w - a.w)) {
    f.g.classList.toggle('found', f.found);
    if (f.found && f.x >= end - .01) { share += f.w; end = f.x + f.w; }
  }
  document.getElementById('hint').textContent =
    words ? `"${words}": ${(100 * share / W).toFixed(2)} %` : 'key s: search';
}
for (const f of frames) f.g.addEventListener('click', () => zoom(f));
document.addEventListener('keydown', e => {
  if (e.key === 's') search(prompt('A part of a function\'s name:'));
  if (e.key === 'Escape') search('');
});
"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_as_wide_as_they_were_often_and_stand_on_their_callers() {
        let stacks = [("a;b", 3), ("a;c<T>", 1)];
        let svg = draw("a \"title\" & more", stacks.into_iter());
        assert!(svg.contains("a &quot;title&quot; &amp; more"));
        let rows: Vec<&str> = svg.lines().filter(|line| line.starts_with("<g class")).collect();
        //  title                                    place
        let want = [
            ("all: 4 samples, 100.00 %", "x=\"0.00\" y=\"40\" width=\"1200.00\""),
            ("a: 4 samples, 100.00 %", "x=\"0.00\" y=\"57\" width=\"1200.00\""),
            ("b: 3 samples, 75.00 %", "x=\"0.00\" y=\"74\" width=\"900.00\""),
            ("c&lt;T&gt;: 1 samples, 25.00 %", "x=\"900.00\" y=\"74\" width=\"300.00\""),
        ];
        assert_eq!(rows.len(), want.len());
        for (row, (title, place)) in rows.iter().zip(want) {
            assert!(row.contains(title) && row.contains(place), "{row}");
        }
    }

    #[test]
    fn what_is_too_narrow_to_see_is_left_out_and_nothing_is_a_picture_too() {
        let svg = draw("t", [("wide", 1_000_000), ("narrow", 1)].into_iter());
        assert!(svg.contains("wide") && !svg.contains("narrow"));
        assert!(draw("t", std::iter::empty()).ends_with("</svg>\n"));
    }
}
