import starlight from '@astrojs/starlight';
import {defineConfig} from 'astro/config';
import rehypeKatex from 'rehype-katex';
import remarkMath from 'remark-math';

export default defineConfig({
  site: 'https://course.example',
  base: '/book',
  markdown: {remarkPlugins: [remarkMath], rehypePlugins: [rehypeKatex]},
  integrations: [
    starlight({
      title: 'A course of tests',
      editLink: {baseUrl: 'https://course.example/repository/'},
      lastUpdated: false,
      defaultLocale: 'root',
      locales: {root: {label: 'English', lang: 'en'}, fr: {label: 'Français', lang: 'fr'}},
      sidebar: [{label: 'Navigation of the course', items: [{slug: 'index'}, {slug: 'guide/balance'}]}],
    }),
  ],
});
