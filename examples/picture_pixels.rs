//! Decodes pictures as training does, and writes their pixels. `scripts/pillow_suite.sh` compares them with Pillow's.
//!
//! ```sh
//! cargo run --release --example picture_pixels -- FOLDER < LIST
//! ```
//!
//! `LIST` has one path per line. Picture 0 becomes `FOLDER/0.ppm`, and so on. Prints a line per picture: its number and
//! `ok`, or its number and the error.

#![expect(clippy::print_stdout, reason = "the output is for a script")]
#![expect(clippy::disallowed_methods, reason = "the pixels are temporary files")]

use std::error::Error;
use std::io::stdin;
use std::path::Path;
use std::{env, fs};

use mae::data::{Pixels, read_picture};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args().nth(1).ok_or("name the folder for the pixels")?;
    for (number, line) in stdin().lines().enumerate() {
        match read_picture(Path::new(&line?)) {
            Ok(picture) => {
                let Pixels::U8(levels) = picture.pixels else { return Err("not 8 bits".into()) };
                let head = format!("P6 {} {} 255\n", picture.width, picture.height).into_bytes();
                let file = Path::new(&folder).join(format!("{number}.ppm"));
                fs::write(file, [head, levels].concat())?;
                println!("{number} ok");
            }
            Err(error) => println!("{number} {}", error.to_string().replace('\n', " ")),
        }
    }
    Ok(())
}
