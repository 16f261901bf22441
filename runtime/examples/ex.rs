use runtime::*; use std::path::Path; use std::time::Instant;
fn main(){
  let a: Vec<String> = std::env::args().collect();
  let g=gguf::Gguf::open(Path::new(&a[1])).unwrap();
  let dev=device::Device::cpu(0);
  let json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&a[2]).unwrap()).unwrap();
  let t=Instant::now();
  let mut m=model::Model::load(&dev,&g,batch::BatchLimits{tokens:256,sequences:1,context:512},16,&mut |_,_|()).unwrap();
  println!("load {:?} {}", t.elapsed(), dev.description());
  for p in json["prompts"].as_array().unwrap() {
    let ids: Vec<u32>=p["ids"].as_array().unwrap().iter().map(|x|x.as_u64().unwrap() as u32).collect();
    let want: Vec<u32>=p["greedy"].as_array().unwrap().iter().map(|x|x.as_u64().unwrap() as u32).collect();
    let t=Instant::now();
    let tr=trace::trace_prompt(&dev,&mut m,&ids,want.len(),true).unwrap();
    let got: Vec<u32>=tr.steps.iter().map(|s|s.id).collect();
    println!("{} ids {:?} same {} ", ids.len(), t.elapsed(), got==want);
    for (l,w) in tr.layers.iter().zip(p["layers"].as_array().unwrap()) { let e=(l.l2_all/w["l2_all"].as_f64().unwrap()-1.).abs(); if e>1e-6 {println!("{} {e:e}", l.name);} }
    let err = tr.steps[0].top5.iter().zip(p["top5"][0].as_array().unwrap()).map(|(a,b)| (a.1 as f64-b[1].as_f64().unwrap()).abs()).fold(0.,f64::max);
    println!("err {err:e}");
  }
  // speed
  let ids: Vec<u32>=(0..256).map(|i| (i*7%300) as u32).collect();
  let t=Instant::now(); let _=trace::trace_prompt(&dev,&mut m,&ids,1,false).unwrap(); println!("prefill 256: {:?}", t.elapsed());
  let t=Instant::now(); let _=trace::trace_prompt(&dev,&mut m,&ids[..1],101,false).unwrap(); println!("decode 100: {:?}", t.elapsed());
}
